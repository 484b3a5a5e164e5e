"""What a network is before it has learnt: its units do not drown the image, and its answer depends on it."""

import keras
import numpy as np
import pytest
from tiny import build

from kcls.models.initializers import small_normal
from kcls.models.layers import ClassTokens, MaskTokens
from kcls.models.positions import PositionEmbedding, RelativePositionBias

# Deviations


def test_the_small_normal_is_not_cut_at_two_deviations():
    values = keras.ops.convert_to_numpy(small_normal()((1000, 100)))
    assert values.std() == pytest.approx(0.02, rel=0.01)  # of 100,000 values it is known to 0.22 %; cut, it is .0176
    assert np.abs(values).max() > 0.06


@pytest.mark.parametrize("label", ["vit", "deit_distilled", "swin", "convnext"])
def test_the_kernels_start_with_the_deviation_of_the_authors_code(label):
    kernels = np.concatenate([w.numpy().ravel() for w in build(label).weights if w.name == "kernel"])
    assert kernels.std() == pytest.approx(0.02, rel=0.04)  # of 7,000 values it is known to 0.85 %


@pytest.mark.parametrize(
    "layer, shape, weight, deviation",
    [
        (ClassTokens(10), (None, 4, 1000), "tokens", 0.02),
        (MaskTokens(), [(None, 4, 10_000), (None, 9)], "token", 0.02),
        (PositionEmbedding(), (None, 100, 100), "positions", 0.02),
        (PositionEmbedding(stddev=0.2), (None, 100, 100), "positions", 0.2),
        (RelativePositionBias(), (None, 20, 144, 144), "table", 0.02),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, keras.layers.Layer) else None,
)
def test_tokens_and_tables_start_with_the_deviation_of_the_authors_code(layer, shape, weight, deviation):
    layer.build(shape)
    values = getattr(layer, weight).numpy()
    assert values.std() == pytest.approx(deviation, rel=0.03)  # of 10,000 values it is known to 0.7 %
