"""MnistSimpleCNN: a stack of unpadded convolutions without pooling, one kernel size in each network.

Paper: An et al., "An Ensemble of Simple Convolutional Neural Network Models for MNIST Digit Recognition",
2020, arXiv:2008.10400.

    name            kernel   convolutions   widths                  last map of a 28 px image
    simple_cnn_m3   3        10             32, 48, 64, ... 176     8 x 8
    simple_cnn_m5   5        5              32, 64, 96, 128, 160    8 x 8
    simple_cnn_m7   7        4              48, 96, 144, 192        4 x 4

Differs: the input is RGB, as of every model here, and is averaged to the one channel of the paper first. The
paper's normalisation, pixel / 127.5 - 1, is the default one.
"""

from keras import layers, ops

from kcls.models.blocks import NORM_EPSILON, NORM_MOMENTUM, conv_norm_act
from kcls.models.registry import variants


def normed_head(x, num_classes):
    """Features (B, C) -> logits (B, num_classes): Dense without bias, then batch norm of the logits."""
    x = layers.Dense(num_classes, use_bias=False, dtype="float32", name="head")(x)
    return layers.BatchNormalization(momentum=NORM_MOMENTUM, epsilon=NORM_EPSILON, dtype="float32", name="head_norm")(x)


@variants(
    image_size=28,
    num_classes=10,
    head=normed_head,
    simple_cnn_m3=dict(kernel=3, widths=tuple(range(32, 177, 16))),
    simple_cnn_m5=dict(kernel=5, widths=(32, 64, 96, 128, 160)),
    simple_cnn_m7=dict(kernel=7, widths=(48, 96, 144, 192)),
)
def simple_cnn(x, *, kernel, widths):
    """Image (B, H, W, 3) -> features (B, C): every position of the last map."""
    x = ops.mean(x, axis=-1, keepdims=True)
    for i, width in enumerate(widths, 1):
        x = conv_norm_act(x, width, kernel, padding=0, name=f"conv{i}")
    return layers.Flatten(name="flatten")(x)
