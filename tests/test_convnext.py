"""ConvNeXt: its block, its stochastic depth and its layer scale; the whole network is compared with timm."""

from functools import partial

import keras
import numpy as np
import pytest
from numpy_reference import assert_close, gelu, np_conv, np_dense, np_layer_norm, weights
from tiny import build, images, jitter, logits, shared

from kcls.errors import RecipeError
from kcls.models.convnext import block
from kcls.models.layers import DropPath, LayerScale
from kcls.models.registry import get_variant

np_layer_norm = partial(np_layer_norm, epsilon=1e-6)


def np_block(model, x, name):
    """Section 2.6 and Figure 4: depthwise 7x7, norm, 4 times as many channels, GELU, back, scaled, added."""
    kernel, bias = weights(model, f"{name}_conv")
    y = np.concatenate([np_conv(x[..., [c]], kernel[:, :, [c]], 1, 3) for c in range(x.shape[3])], -1) + bias
    y = np_layer_norm(model, y, f"{name}_norm")
    y = np_dense(model, gelu(np_dense(model, y, f"{name}_expand")), f"{name}_reduce")
    return x + y * weights(model, f"{name}_scale")[0]


def np_patches(model, x, name):
    """A convolution whose stride is its kernel."""
    kernel, bias = weights(model, name)
    return np_conv(x, kernel, kernel.shape[0]) + bias


def test_a_block_computes_what_the_paper_says():
    image = keras.Input((9, 9, 6))
    model = jitter(keras.Model(image, block(image, 0.0, "b")))
    x = np.random.default_rng(1).normal(size=(2, 9, 9, 6))
    assert_close(logits(model, x.astype("float32")), np_block(model, x, "b"))


def test_the_whole_network_computes_what_the_paper_says():
    model = shared("convnext")
    x = images(model)
    y = np_layer_norm(model, np_patches(model, x / 127.5 - 1, "stem_conv"), "stem_norm")
    for stage, depth in enumerate((3, 3, 9, 3), 1):
        if stage > 1:
            y = np_layer_norm(model, y, f"stage{stage}_downsample_norm")
            y = np_patches(model, y, f"stage{stage}_downsample_conv")
        for b in range(1, depth + 1):
            y = np_block(model, y, f"stage{stage}_block{b}")
    expected = np_dense(model, np_layer_norm(model, y.mean((1, 2)), "last_norm"), "head")
    assert_close(logits(model, x), expected)


def test_a_block_starts_near_the_identity():
    image = keras.Input((8, 8, 4))
    model = keras.Model(image, block(image, 0.0, "b"))
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 4)).astype("float32")
    difference = np.abs(logits(model, x) - x).max()
    assert 0 < difference < 1e-5  # residuals of a few units at most, times 1e-6


def test_layer_scale_multiplies_each_channel():
    layer = LayerScale(0.5)
    x = np.ones((2, 3, 3, 4), "float32")
    assert (keras.ops.convert_to_numpy(layer(x)) == 0.5).all()
    layer.gamma.assign([1, 2, 3, 4])
    assert (keras.ops.convert_to_numpy(layer(x))[1, 2, 0] == [1, 2, 3, 4]).all()


def test_drop_path_grows_linearly_from_0_to_its_rate():
    model = build("convnext", drop_path_rate=0.5)
    rates = [layer.rate for layer in model.layers if isinstance(layer, DropPath)]
    assert rates == pytest.approx([0.5 * i / 17 for i in range(1, 18)])  # 18 blocks; the first drops nothing
    assert not [layer.name for layer in model.layers if layer.name == "stage1_block1_drop_path"]


def test_the_drop_path_rates_are_those_of_table_5():
    names = ("tiny", "small", "base", "large")
    assert [get_variant(f"convnext_{n}").option("drop_path_rate") for n in names] == [0.1, 0.4, 0.5, 0.5]


def test_an_image_too_small_for_four_halvings_is_refused():
    with pytest.raises(RecipeError, match="model 'convnext_tiny' cannot be built for 16 px images"):
        build("convnext", image_size=16)
