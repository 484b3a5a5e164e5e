"""Layers of a network that runs in int8: with fake quantization they learn to live with it, and convert as one graph.

What each does beyond its Keras layer makes LiteRT's int8 file compute what the layer computes, within a delegate:

- Kernels have a symmetric scale for each output channel. A batch norm behind a convolution scales whole channels, so
  it commutes with this grid, and the converter folds it.
- A ``Dense`` is a 1x1 convolution: LiteRT gives a fully connected layer one scale for all channels.
- A batch norm that stands alone, a rescaling and an average pool are depthwise convolutions: as MUL, ADD and
  AVERAGE_POOL_2D they would have one scale for all channels or stay out of the delegate.
- Activations are written in operators that the delegate has in int8.

``bits`` of a kernel are 8 or 4; None leaves it in float, for a converter that measures the scales itself.
"""

import math
from typing import Any

import keras
import tensorflow as tf

register = keras.saving.register_keras_serializable("kcls")


def fake_quantize_kernel(kernel, bits: int | None):
    """``kernel`` rounded to 2 ** bits - 1 steps around 0 in each channel of its last axis; gradients pass straight."""
    if bits is None:
        return kernel
    axes = list(range(len(kernel.shape) - 1))
    top = tf.stop_gradient(tf.reduce_max(tf.abs(kernel), axes))
    top = tf.maximum(top, 1e-6)  # of a channel of zeros, whose step must not be 0
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(kernel, -top, top, bits, narrow_range=True)


def fake_quantize_depthwise(kernel, bits: int | None):
    """``fake_quantize_kernel`` of (h, w, C, multiplier), whose output channels are the last two axes."""
    h, w, channels, multiplier = kernel.shape
    rounded = fake_quantize_kernel(tf.reshape(kernel, (1, h, w, channels * multiplier)), bits)
    return tf.reshape(rounded, kernel.shape)


def fake_quantize_fixed(x, low: float, high: float, bits: int | None):
    """``x`` rounded to 2 ** bits - 1 steps of a range that is known; None leaves it as it is."""
    return x if bits is None else tf.quantization.fake_quant_with_min_max_args(x, low, high, bits)


def scale_channels(x, scale, offset, bits: int | None):
    """Scale and offset of each channel, as a 1x1 depthwise convolution: (B, H, W, C) or (B, C) -> the same.

    A kernel of one number a channel is its own largest, so rounding leaves it as it is.
    """
    channels = x.shape[-1]
    kernel = fake_quantize_depthwise(tf.reshape(scale, (1, 1, channels, 1)), bits)
    pixels = x if len(x.shape) == 4 else tf.reshape(x, (-1, 1, 1, channels))
    y = tf.nn.depthwise_conv2d(pixels, kernel, (1, 1, 1, 1), "VALID") + offset
    return y if len(x.shape) == 4 else tf.reshape(y, (-1, channels))


class WithBits(keras.layers.Layer):
    """A layer that knows to how many bits its kernel is rounded."""

    def __init__(self, *args, bits: int | None = 8, **kwargs):
        super().__init__(*args, **kwargs)
        self.bits = bits

    def get_config(self) -> dict[str, Any]:
        """Configuration for saving."""
        return {**super().get_config(), "bits": self.bits}


@register
class FakeQuantConv2D(WithBits, keras.layers.Conv2D):
    """``keras.layers.Conv2D`` with a rounded kernel."""

    def convolution_op(self, inputs, kernel):
        """Returns the convolution of ``inputs`` with the rounded ``kernel``."""
        return super().convolution_op(inputs, fake_quantize_kernel(tf.convert_to_tensor(kernel), self.bits))


@register
class FakeQuantDepthwiseConv2D(WithBits, keras.layers.DepthwiseConv2D):
    """``keras.layers.DepthwiseConv2D`` with a rounded kernel."""

    def call(self, inputs):
        """Returns the convolution of ``inputs`` with the rounded kernel."""
        y = keras.ops.depthwise_conv(
            inputs,
            fake_quantize_depthwise(tf.convert_to_tensor(self.kernel), self.bits),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
        )
        return self.activation(y + self.bias if self.use_bias else y)


@register
class FakeQuantDense(WithBits, keras.layers.Dense):
    """``keras.layers.Dense`` with a rounded kernel, as a 1x1 convolution: (B, ..., C) -> (B, ..., units)."""

    def call(self, inputs, training=None):
        """Returns the product of ``inputs`` and the rounded kernel."""
        # The converter follows a kernel's scales through the operators before the rounding, but not behind it.
        kernel = fake_quantize_kernel(tf.convert_to_tensor(self.kernel)[tf.newaxis, tf.newaxis], self.bits)
        *places, channels = inputs.shape[1:]
        pixels = inputs if len(places) == 2 else tf.reshape(inputs, (-1, 1, math.prod(places), channels))
        y = tf.nn.conv2d(pixels, kernel, 1, "VALID")
        y = y + self.bias if self.use_bias else y
        return self.activation(y if len(places) == 2 else tf.reshape(y, (-1, *places, self.units)))


@register
class DepthwiseNormalization(WithBits, keras.layers.BatchNormalization):
    """``keras.layers.BatchNormalization`` that is a 1x1 depthwise convolution at inference."""

    def call(self, inputs, training=None, mask=None):
        """Returns the normed ``inputs``; in training as Keras does."""
        if training:
            return super().call(inputs, training=True)
        scale = tf.math.rsqrt(self.moving_variance + self.epsilon)
        scale = scale * self.gamma if self.scale else scale
        offset = -self.moving_mean * scale
        return scale_channels(inputs, scale, offset + self.beta if self.center else offset, self.bits)


@register
class DepthwiseRescaling(WithBits, keras.layers.Rescaling):
    """``keras.layers.Rescaling`` as a 1x1 depthwise convolution: (B, H, W, C) -> the same."""

    def call(self, inputs):
        """Returns ``inputs * scale + offset``."""
        shape = inputs.shape[-1:]
        scale, offset = (tf.broadcast_to(tf.cast(number, tf.float32), shape) for number in (self.scale, self.offset))
        return scale_channels(inputs, scale, offset, self.bits)


@register
class DepthwiseAveragePooling2D(WithBits, keras.layers.AveragePooling2D):
    """``keras.layers.AveragePooling2D`` without padding, as a depthwise convolution whose weights are all equal."""

    def call(self, inputs):
        """Returns the means of the windows."""
        (h, w), channels = self.pool_size, inputs.shape[-1]
        kernel = fake_quantize_depthwise(tf.fill((h, w, channels, 1), 1 / (h * w)), self.bits)
        return keras.ops.depthwise_conv(inputs, kernel, strides=self.strides, padding="valid")


@register
class Subsample(WithBits):
    """Every ``stride``-th row and column, as a 1x1 convolution: (B, H, W, C) -> (B, H/stride, W/stride, C).

    The delegate has no slice with a step.

    Args:
        stride: of rows and columns.
        bits: of the kernel of zeros and ones.
    """

    def __init__(self, stride: int, bits: int | None = 8, **kwargs):
        super().__init__(bits=bits, **kwargs)
        self.stride = stride

    def call(self, inputs):
        """Returns ``inputs[:, ::stride, ::stride]``."""
        channels = inputs.shape[-1]
        kernel = fake_quantize_kernel(tf.reshape(tf.eye(channels), (1, 1, channels, channels)), self.bits)
        return tf.nn.conv2d(inputs, kernel, self.stride, "VALID")

    def get_config(self) -> dict[str, Any]:
        """Configuration for saving."""
        return {**super().get_config(), "stride": self.stride}


class Unfused(keras.layers.Layer):
    """Returns what it is given, and keeps the converter from fusing what is before it with the kernel behind it.

    Multiplied into a kernel, a layer norm's factors would change its steps, and added to its bias, offsets would be
    multiplied with a kernel that is not rounded: the file would not compute what was trained.
    """

    def call(self, inputs):
        """Returns ``inputs``: there are no numbers below that of the maximum."""
        return tf.maximum(inputs, -1e30)


@register
class EdgeActivation(WithBits, keras.layers.Activation):
    """``keras.layers.Activation`` of a gate: sigmoid, silu, hard_sigmoid or hard_silu.

    LiteRT's sigmoid has the steps of 1 / 256. Hard ones are of ADD, MUL and a clamp: the delegate has no HARD_SWISH in
    int8, which the converter would make of a clamp of x + 3, so 3.0001 is added.
    """

    def call(self, inputs):
        """Returns the activation of ``inputs``."""
        name = self.activation.__name__
        if name.startswith("hard_"):
            clamped = fake_quantize_fixed(tf.nn.relu6(inputs + 3.0001), 0.0, 6.0, self.bits)
            gate = fake_quantize_fixed(clamped * (1 / 6), 0.0, 1.0, self.bits)
        else:
            gate = tf.sigmoid(inputs)
            gate = gate if self.bits is None else fake_quantize_fixed(gate, 0.0, 1 - 2.0**-self.bits, self.bits)
        return gate if name.endswith("sigmoid") else inputs * gate


@register
class EdgeAdd(keras.layers.Add):
    """``keras.layers.Add`` that is an ADD for maps of one pixel, too.

    Keras takes those of a batch of one for a bias, which it reshapes; the converter then loses the scale.
    """

    def call(self, inputs):
        """Returns the sum of ``inputs``."""
        return sum(inputs[1:], inputs[0])
