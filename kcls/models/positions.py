"""Where a token stands: learnt and fixed tables of positions, and how they fit a grid of another size."""

import math

import keras
import numpy as np
from keras import ops

from kcls.models.initializers import small_normal
from kcls.models.roles import not_decayed


@keras.saving.register_keras_serializable("kcls")
class PositionEmbedding(keras.layers.Layer):
    """Adds a learnt vector to each token: (B, N, C) -> the same.

    The tokens are a square grid, row by row, behind ``prefix`` others, whose vectors are kept when the grid is resized.

    Args:
        prefix: number of tokens before the grid.
        stddev: deviation of the first values.
    """

    def __init__(self, prefix: int = 0, stddev: float = 0.02, **kwargs):
        super().__init__(**kwargs)
        self.prefix = prefix
        self.stddev = stddev

    def build(self, input_shape):
        """Makes the vectors, (1, N, C)."""
        initializer = small_normal(self.stddev)
        shape = (1, *input_shape[1:])
        self.positions = not_decayed(self.add_weight(name="positions", shape=shape, initializer=initializer))

    def fit_weight(self, name: str, value: np.ndarray) -> np.ndarray:
        """The vectors of another grid, resized to the layer's own; as they are if one of the two is not square."""
        length = self.positions.shape[1]
        side = math.isqrt(length - self.prefix)
        if value.ndim != 3 or side**2 + self.prefix != length:
            return value
        prefix, grid = np.split(value[0], [self.prefix])
        return np.concatenate([prefix, resized(grid, side, antialias=True)])[None]

    def call(self, x):
        """Returns ``x`` plus the vectors."""
        return x + self.positions

    def compute_output_shape(self, input_shape):
        """The shape of the input."""
        return input_shape

    def get_config(self):
        """Configuration for saving."""
        return {**super().get_config(), "prefix": self.prefix, "stddev": self.stddev}


@keras.saving.register_keras_serializable("kcls")
class RelativePositionBias(keras.layers.Layer):
    """Adds a learnt number for each head and offset between tokens of a square grid: (..., heads, N, N) -> the same.

    Liu et al., "Swin Transformer", arXiv:2103.14030, equation 4. Row (dy + s - 1) (2 s - 1) + dx + s - 1 of the table
    belongs to a query that lies dy rows below and dx columns right of the key, on a grid of s x s tokens.
    """

    def build(self, input_shape):
        """Makes the table, ((2 s - 1)^2, heads)."""
        heads, tokens = input_shape[-3:-1]
        self.side = math.isqrt(tokens)
        shape = ((2 * self.side - 1) ** 2, heads)
        initializer = small_normal()
        self.table = not_decayed(self.add_weight(name="table", shape=shape, initializer=initializer))

    def index(self) -> np.ndarray:
        """The row of the table for each query and key, (N, N)."""
        y, x = np.divmod(np.arange(self.side**2), self.side)
        dy, dx = y[:, None] - y, x[:, None] - x
        return (dy + self.side - 1) * (2 * self.side - 1) + dx + self.side - 1

    def fit_weight(self, name: str, value: np.ndarray) -> np.ndarray:
        """The table of another grid, resized to the layer's own; as it is if it is not of a square grid."""
        return resized(value, 2 * self.side - 1, antialias=False) if value.ndim == 2 else value

    def call(self, products):
        """Returns the products plus the biases."""
        # Transposed first, it has a dense gradient; and a table that does not change folds into one constant.
        return products + ops.take(ops.transpose(self.table), self.index(), axis=1)

    def compute_output_shape(self, input_shape):
        """The shape of the input."""
        return input_shape


@keras.saving.register_keras_serializable("kcls")
class SinCosPositions(keras.layers.Layer):
    """Adds a fixed vector to each token of a square grid: (B, prefix + N, C) -> the same.

    Vaswani et al., arXiv:1706.03762, section 3.5, in two dimensions. The first half of the channels tells the column,
    the second the row: of a number p, C / 4 sines of p / 10000^(4 i / C), i from 0, then as many cosines.

    Args:
        prefix: number of tokens before the grid, which stay as they are.
    """

    def __init__(self, prefix: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.prefix = prefix

    def build(self, input_shape):
        """Checks that there is a grid."""
        length, width = input_shape[1] - self.prefix, input_shape[2]
        if width % 4:
            raise ValueError(f"sines and cosines of two numbers need a multiple of 4 channels, not {width}")
        if math.isqrt(length) ** 2 != length:
            raise ValueError(f"{length} tokens are not a square grid")

    def table(self, length: int, width: int) -> np.ndarray:
        """The vectors, (prefix + N, C); those of the prefix are 0."""
        rows, columns = np.divmod(np.arange(length - self.prefix), math.isqrt(length - self.prefix))
        rates = 10_000.0 ** (-np.arange(width // 4) / (width // 4))
        angles = [numbers[:, None] * rates for numbers in (columns, rows)]
        grid = np.concatenate([f(angle) for angle in angles for f in (np.sin, np.cos)], axis=1)
        return np.pad(grid, [(self.prefix, 0), (0, 0)])

    def call(self, x):
        """Returns ``x`` plus the vectors."""
        return x + ops.convert_to_tensor(self.table(*x.shape[1:]), dtype=x.dtype)

    def compute_output_shape(self, input_shape):
        """The shape of the input."""
        return input_shape

    def get_config(self):
        """Configuration for saving."""
        return {**super().get_config(), "prefix": self.prefix}


def resized(rows: np.ndarray, side: int, *, antialias: bool) -> np.ndarray:
    """The rows (N, C) of a square grid, resized to ``side`` x ``side`` as the authors' own code does.

    Cubic convolution: Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981; sample i lies at
    i + 1/2. Rows that are no square grid, or of that side already, are returned as they are.
    """
    old = math.isqrt(len(rows))
    if not old or old == side or old**2 != len(rows):
        return rows
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
