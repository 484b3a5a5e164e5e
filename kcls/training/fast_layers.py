"""Layers that compute what Keras's compute, in less time, while a model is trained.

Keras composes a batch norm of about fifteen operations, and on a CPU compiles a grouped convolution with XLA, whose
gradient takes ten to two hundred times as long as that of one convolution per group (`benchmarks/README.md`). Weights
and their names stay, so checkpoints and files know nothing of it. On a GPU, where nothing was measured, the batch norm
is cuDNN's, and grouped convolutions stay Keras's, as cuDNN has them.
"""

import keras
import tensorflow as tf


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch norm of (B, H, W, C) in one operation forwards and one backwards."""

    def call(self, inputs, training=None, mask=None):
        """Returns the normed ``inputs``; in training the moving statistics take a step towards theirs."""
        if not (training and self.trainable):
            return super().call(inputs, training, mask)
        channels = inputs.shape[-1]
        scale = tf.convert_to_tensor(self.gamma) if self.scale else tf.ones(channels)
        offset = tf.convert_to_tensor(self.beta) if self.center else tf.zeros(channels)
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(inputs, scale, offset, epsilon=self.epsilon)
        count = tf.cast(tf.size(inputs) // channels, tf.float32)
        variance *= tf.maximum(count - 1, 1) / count  # the operation returns the unbiased one, Keras keeps the biased
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + new * (1 - self.momentum))
        return y


class SplitConv2D(keras.layers.Conv2D):
    """A grouped convolution as one convolution per group."""

    def convolution_op(self, inputs, kernel):
        """Returns the convolutions of the groups of channels, side by side."""
        groups = zip(tf.split(inputs, self.groups, -1), tf.split(kernel, self.groups, -1), strict=True)
        return tf.concat([super(SplitConv2D, self).convolution_op(x, k) for x, k in groups], -1)


def speed_up(model: keras.Model) -> None:
    """Swaps the layers of a model that is about to be trained for the faster ones, where they compute the same."""
    on_cpu = not tf.config.list_logical_devices("GPU")
    for layer in model.layers:
        if type(layer) is keras.layers.Conv2D and layer.groups > 1 and on_cpu:
            layer.__class__ = SplitConv2D
        elif type(layer) is keras.layers.BatchNormalization and _can_be_fused(layer):
            layer.__class__ = FusedBatchNormalization


def _can_be_fused(norm: keras.layers.BatchNormalization) -> bool:
    return len(norm.input.shape) == 4 and norm.axis in (-1, 3) and not (norm.synchronized or norm.renorm)
