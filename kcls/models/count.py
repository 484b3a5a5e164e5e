"""Parameters and multiply-adds of a functional model, read off its graph."""

from math import prod

import keras
from keras import layers


def trainable_params(model: keras.Model) -> int:
    """Number of trained values: moving statistics and random states do not count."""
    return sum(prod(w.shape) for w in model.trainable_weights)


def gmacs(model: keras.Model) -> float:
    """Multiply-adds for one image, in units of 1e9; convolutions and dense layers count, the rest is cheap."""
    return sum(_macs(layer) for layer in model.layers) / 1e9


def _macs(layer) -> int:
    if isinstance(layer, layers.Dense | layers.Conv2D | layers.DepthwiseConv2D):
        # Every value of the kernel is used once at each position of the output.
        return prod(layer.output.shape[1:-1]) * prod(layer.kernel.shape)
    return 0
