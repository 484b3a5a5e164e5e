"""Position tables of another image size: resized as the authors' own code does, by cubic convolution.

Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981; sample i lies at i + 1/2.
"""

import math

import keras
import numpy as np

from kcls.models.layers import PositionEmbedding, RelativePositionBias


def resized(value: np.ndarray, layer: keras.layers.Layer) -> np.ndarray:
    """The weight of a position layer for that layer's own grid; any other weight, or one without a grid, as it is."""
    if isinstance(layer, PositionEmbedding) and value.ndim == 3:
        prefix, grid = np.split(value[0], [layer.prefix])
        side = math.isqrt(layer.positions.shape[1] - layer.prefix)
        if _is_square(grid, side) and side**2 + layer.prefix == layer.positions.shape[1]:
            return np.concatenate([prefix, _resize_rows(grid, side, antialias=True)])[None]
    if isinstance(layer, RelativePositionBias) and value.ndim == 2:
        side = 2 * layer.side - 1
        if _is_square(value, side):
            return _resize_rows(value, side, antialias=False)
    return value


def _is_square(rows: np.ndarray, side: int) -> bool:
    """Whether the rows are those of a square grid of another side than ``side``."""
    old = math.isqrt(len(rows))
    return 0 < old != side and old**2 == len(rows)


def _resize_rows(rows: np.ndarray, side: int, *, antialias: bool) -> np.ndarray:
    old = math.isqrt(len(rows))
    grid = rows.reshape(old, old, -1).astype("float64")
    matrix = cubic_matrix(old, side, antialias=antialias)
    grid = np.einsum("ai,bj,ijc->abc", matrix, matrix, grid, optimize=True)
    return grid.reshape(side**2, -1).astype("float32")


def cubic_matrix(old: int, new: int, *, antialias: bool) -> np.ndarray:
    """The linear map (new, old) from ``old`` samples to ``new``.

    Args:
        old: number of given samples.
        new: number of wanted ones.
        antialias: whether the kernel widens where samples get fewer, and has Keys's a of -1/2, as in image libraries;
            else a is -3/4 and the kernel always reaches over four samples, as on graphics cards.
    """
    a, scale = (-0.5, max(old / new, 1.0)) if antialias else (-0.75, 1.0)
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    reach = math.ceil(2 * scale) + 1
    matrix = np.zeros((new, old))
    for row, centre in zip(matrix, centres, strict=True):
        taps = np.arange(math.floor(centre) - reach, math.floor(centre) + reach + 1)
        weights = _keys((taps - centre) / scale, a)
        if antialias:  # samples beyond the border do not count
            weights = np.where((taps >= 0) & (taps < old), weights, 0)
        np.add.at(row, taps.clip(0, old - 1), weights / weights.sum())
    return matrix


def _keys(x: np.ndarray, a: float) -> np.ndarray:
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
