"""Parameters and multiply-adds of a functional model, read off its graph."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import keras
from keras import layers


@contextmanager
def weightless() -> Iterator[None]:
    """Models that are built within the block have weights with shapes but without values, so they take no memory.

    They can be counted and listed, not run. What Keras keeps of other models for naming new layers is forgotten.
    """
    with keras.StatelessScope():
        yield
        keras.utils.clear_session()  # else the scope would give every weight its value at its end


def trainable_params(model: keras.Model) -> int:
    """Number of trained values: moving statistics and random states do not count."""
    return sum(prod(w.shape) for w in model.trainable_weights)


def gmacs(model: keras.Model) -> float:
    """Multiply-adds for one image, in units of 1e9; convolutions, dense layers and products of tensors count."""
    return sum(_macs(operation) for operation in model.operations) / 1e9


def _macs(operation) -> int:
    if isinstance(operation, layers.Dense | layers.Conv2D | layers.DepthwiseConv2D):
        # Every value of the kernel is used once at each position of the output.
        return prod(operation.output.shape[1:-1]) * prod(operation.kernel.shape)
    if type(operation).__name__ == "Matmul":  # of attention
        return prod(operation.output.shape[1:]) * operation.input[0].shape[-1]
    return 0
