"""Position tables of another image size, resized as PyTorch and timm do."""

import numpy as np
import pytest

from kcls.models.layers import PositionEmbedding, RelativePositionBias
from kcls.weights.resize import cubic_matrix, resized


def built(layer, shape):
    layer.build((None, *shape))
    return layer


def test_a_polynomial_of_second_degree_survives_away_from_the_border():
    # Keys 1981: with a = -1/2, and only with it, cubic convolution reproduces them.
    x, finer = np.arange(16) + 0.5, (np.arange(40) + 0.5) * 16 / 40
    f = lambda t: 3 * t**2 - 2 * t + 1  # noqa: E731
    inner = slice(8, -8)
    np.testing.assert_allclose((cubic_matrix(16, 40, antialias=True) @ f(x))[inner], f(finer)[inner], rtol=1e-12)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("old, new", [(14, 24), (24, 14), (13, 23), (5, 5)])
def test_a_constant_stays_and_equal_sizes_change_nothing(old, new, antialias):
    matrix = cubic_matrix(old, new, antialias=antialias)
    np.testing.assert_allclose(matrix.sum(1), 1)
    if old == new:
        np.testing.assert_array_equal(matrix, np.eye(old))


def test_tokens_before_the_grid_are_kept():
    layer = built(PositionEmbedding(prefix=2), (2 + 36, 3))
    value = np.random.default_rng(0).normal(size=(1, 2 + 16, 3)).astype("float32")
    assert resized(value, layer).shape == (1, 38, 3)
    np.testing.assert_array_equal(resized(value, layer)[0, :2], value[0, :2])


def test_a_table_that_is_no_square_is_left_for_the_error():
    layer = built(PositionEmbedding(prefix=1), (1 + 36, 3))
    value = np.zeros((1, 18, 3), "float32")
    assert resized(value, layer) is value


@pytest.mark.parity
@pytest.mark.parametrize("old, new", [(14, 24), (24, 14), (7, 9)])
def test_position_embeddings_are_resized_as_by_timm(old, new):
    import torch
    from parity import import_timm

    import_timm()
    from timm.layers import resample_abs_pos_embed

    value = np.random.default_rng(0).normal(size=(1, 1 + old**2, 5)).astype("float32")
    expected = resample_abs_pos_embed(torch.from_numpy(value), [new, new], num_prefix_tokens=1).numpy()
    layer = built(PositionEmbedding(prefix=1), (1 + new**2, 5))
    np.testing.assert_allclose(
        resized(value, layer), expected, atol=1e-5
    )  # float32 in PyTorch: off by 8e-6, in float64 by 1e-14


@pytest.mark.parity
@pytest.mark.parametrize("old, new", [(7, 12), (12, 7)])
def test_tables_of_relative_positions_are_resized_as_by_timm(old, new):
    import torch
    from parity import import_timm

    import_timm()
    from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple  # that of Swin's authors

    value = np.random.default_rng(0).normal(size=((2 * old - 1) ** 2, 3)).astype("float32")
    expected = resize_rel_pos_bias_table_simple(torch.from_numpy(value), (new, new), ((2 * new - 1) ** 2, 3)).numpy()
    layer = built(RelativePositionBias(), (3, new**2, new**2))
    np.testing.assert_allclose(
        resized(value, layer), expected, atol=1e-5
    )  # float32 in PyTorch: off by 8e-6, in float64 by 1e-14
