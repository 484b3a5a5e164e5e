"""CCT: its tokenizer, its block, its pool over the tokens, and the whole network."""

from functools import partial

import keras
import numpy as np
import pytest
from numpy_reference import (
    assert_close,
    gelu,
    np_attention,
    np_conv,
    np_dense,
    np_layer_norm,
    np_max_pool,
    relu,
    softmax,
    weights,
)
from parity import report
from tiny import build, images, jitter, logits, shared

from kcls.errors import RecipeError
from kcls.models.cct import block
from kcls.models.layers import DropPath
from kcls.models.registry import get_variant

np_layer_norm = partial(np_layer_norm, epsilon=1e-5)

TOLERANCE = 1e-4  # float32 rounds to some 1e-6 of the logits' deviation along two blocks

# The tokenizer's convolutions with their stride, and the ratio of the layer for each token to the width.
NETWORKS = {
    "cct_14_7x2": (2, 2, 3),
    "cct_7_7x2": (2, 2, 2),
    "cct_7_3x1": (1, 1, 2),
    "cct_7_3x2": (2, 1, 2),
}


def np_block(model, x, num_heads, name):
    """The authors' code: x + attention(norm(x)), then normed; the layers read that, and are added to it."""
    x = x + np_attention(model, np_layer_norm(model, x, f"{name}_1_norm"), num_heads, f"{name}_attention")
    x = np_layer_norm(model, x, f"{name}_2_norm")
    return x + np_dense(model, gelu(np_dense(model, x, f"{name}_mlp_expand")), f"{name}_mlp_reduce")


def np_network(model, x, convs, stride):
    """Figure 2: tokenizer, positions, blocks, norm, sequence pool (equations 2 to 4), head."""
    x = x / 127.5 - 1
    for i in range(1, convs + 1):
        (kernel,) = weights(model, f"tokenizer{i}_conv")
        x = np_max_pool(relu(np_conv(x, kernel, stride, kernel.shape[0] // 2)))
    x = x.reshape(len(x), -1, x.shape[-1]) + weights(model, "positions")[0]
    for b in (1, 2):
        x = np_block(model, x, 2, f"block{b}")
    x = np_layer_norm(model, x, "last_norm")
    importance = softmax(np_dense(model, x, "pool_attention").swapaxes(1, 2))
    return np_dense(model, (importance @ x)[:, 0], "head")


def test_a_block_computes_what_the_authors_code_does():
    tokens = keras.Input((5, 8))
    model = jitter(keras.Model(tokens, block(tokens, 2, 3, 0.0, 0.0, "b")))
    x = np.random.default_rng(1).normal(size=(2, 5, 8))
    assert_close(logits(model, x.astype("float32")), np_block(model, x, 2, "b"))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_whole_network_computes_what_the_paper_and_the_authors_code_say(name):
    # With two narrow blocks: how many there are, and how wide, is proven by the counts.
    convs, stride, ratio = NETWORKS[name]
    model = jitter(build("cct", name=name, image_size=40))
    assert model.get_layer("block1_mlp_expand").units == 8 * ratio
    x = images(model)
    report(name, logits(model, x), np_network(model, x, convs, stride), "NumPy", TOLERANCE)


def test_224_px_make_14_by_14_tokens_and_32_px_16_by_16():
    model = build("cct", name="cct_14_7x2", image_size=224)
    assert model.get_layer("positions").output.shape == (None, 196, 8)
    model = build("cct", name="cct_7_3x1", image_size=32)
    assert model.get_layer("positions").output.shape == (None, 256, 8)


def test_positions_start_ten_times_as_large_as_kernels():
    model = build("cct", name="cct_7_3x1", image_size=32, width=32)
    (positions,) = model.get_layer("positions").get_weights()
    kernel = model.get_layer("block1_attention_qkv").get_weights()[0]
    # Thousands of values: their deviation is known to some percent.
    assert positions.std() == pytest.approx(0.2, rel=0.05)
    assert kernel.std() == pytest.approx(0.02, rel=0.05)


def test_tokens_of_equal_importance_are_averaged():
    model = jitter(build("cct", num_classes=0))
    layer = model.get_layer("pool_attention")
    layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    tokens = keras.Model(model.input, model.get_layer("last_norm").output)
    x = images(model)
    np.testing.assert_allclose(logits(model, x), logits(tokens, x).mean(1), atol=1e-6)  # values of about 1 in float32


def test_queries_keys_and_values_have_no_bias():
    assert len(shared("cct").get_layer("block1_attention_qkv").get_weights()) == 1


def test_attention_and_paths_are_dropped_as_published():
    assert {get_variant(name).option("attention_drop_rate") for name in NETWORKS} == {0.1}
    assert {get_variant(name).option("drop_path_rate") for name in NETWORKS} == {0.1}
    model = build("cct", depth=3, drop_path_rate=0.2)
    assert [layer.rate for layer in model.layers if isinstance(layer, DropPath)] == pytest.approx([0.1, 0.1, 0.2, 0.2])
    drops = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert [(layer.name, layer.rate) for layer in drops] == [(f"block{b}_attention_drop", 0.1) for b in (1, 2, 3)]


@pytest.mark.parametrize("size", [8, 17, 30])
def test_the_tokenizer_takes_images_of_any_size(size):
    model = build("cct", image_size=size)
    assert np.isfinite(logits(model, images(model))).all()


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(depth=0), "depth is 1 or more, not 0$"),
        (dict(num_heads=3), "3 heads do not divide 8 channels$"),
        (dict(num_heads=0), "0 heads do not divide 8 channels$"),
        (dict(attention_drop_rate=1.0), "a dropout rate is a fraction from 0 to below 1, not 1.0$"),
        (dict(drop_path_rate=1.0), "drop path rate is a probability from 0 to below 1, not 1.0$"),
    ],
)
def test_options_without_sense_are_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        build("cct", **options)
