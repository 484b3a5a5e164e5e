"""Swin: windows, their shift and the merging of patches, against the paper without rolling; timm sees the whole."""

from functools import partial

import keras
import numpy as np
import pytest
from numpy_reference import assert_close, gelu, np_conv, np_dense, np_layer_norm, weights
from test_weights import write_checkpoint
from tiny import build, images, jitter, logits, shared

import kcls
from kcls.errors import RecipeError
from kcls.models.layers import DropPath, ShiftedWindowMask
from kcls.models.positions import RelativePositionBias
from kcls.models.registry import create_model, get_variant
from kcls.models.swin import block, from_windows, merge_patches, to_windows, window_attention

np_layer_norm = partial(np_layer_norm, epsilon=1e-5)


def together(side, size, shift):
    """Whether two tokens of a map, counted row by row, share a window of the partition that lies ``shift`` further.

    Figure 2: nothing rolls; the windows at the borders are smaller.
    """
    y, x = np.divmod(np.arange(side**2), side)
    row, column = (y - shift) // size, (x - shift) // size
    return (row[:, None] == row) & (column[:, None] == column)


def np_window_attention(model, x, num_heads, size, shift, name):
    """Equation 4, as attention over the whole map to which only tokens of the same window contribute."""
    batch, side, _, width = x.shape
    q, k, v = np.split(np_dense(model, x.reshape(batch, side**2, width), f"{name}_qkv"), 3, axis=-1)
    table = weights(model, f"{name}_bias")[0].reshape(2 * size - 1, 2 * size - 1, num_heads)
    answers = []
    for head in range(num_heads):
        bias = np.full((side**2, side**2), -np.inf)
        for query, key in zip(*np.nonzero(together(side, size, shift)), strict=True):
            dy, dx = query // side - key // side, query % side - key % side
            bias[query, key] = table[dy + size - 1, dx + size - 1, head]
        channels = slice(head * width // num_heads, (head + 1) * width // num_heads)
        products = q[..., channels] @ k[..., channels].swapaxes(1, 2) / np.sqrt(width // num_heads) + bias
        share = np.exp(products - products.max(-1, keepdims=True))
        answers.append(share / share.sum(-1, keepdims=True) @ v[..., channels])
    return np_dense(model, np.concatenate(answers, -1), f"{name}_proj").reshape(x.shape)


def np_block(model, x, num_heads, size, shift, name):
    """Equation 3: attention and MLP of normed tokens, each added."""
    y = np_layer_norm(model, x, f"{name}_1_norm")
    x = x + np_window_attention(model, y, num_heads, size, shift, f"{name}_attention")
    y = np_layer_norm(model, x, f"{name}_2_norm")
    return x + np_dense(model, gelu(np_dense(model, y, f"{name}_mlp_expand")), f"{name}_mlp_reduce")


def np_merge(model, x, name):
    """Section 3.1: 2 x 2 neighbours side by side, in the order of the authors' code; norm; no bias."""
    x = np.concatenate([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
    return np_layer_norm(model, x, f"{name}_norm") @ weights(model, f"{name}_reduce")[0]


@pytest.mark.parametrize("side, size, shift", [(6, 3, 0), (6, 3, 1), (8, 4, 2), (10, 5, 2), (3, 3, 0)])
def test_a_block_computes_what_the_paper_says(side, size, shift):
    image = keras.Input((side, side, 6))
    model = jitter(keras.Model(image, block(image, 2, size, shift, 0.0, "b")))
    x = np.random.default_rng(1).normal(size=(2, side, side, 6))
    assert_close(logits(model, x.astype("float32")), np_block(model, x, 2, size, shift, "b"))


def test_four_neighbours_merge_in_the_published_order():
    image = keras.Input((6, 4, 3))
    model = jitter(keras.Model(image, merge_patches(image, "m")))
    x = np.random.default_rng(1).normal(size=(2, 6, 4, 3))
    assert_close(logits(model, x.astype("float32")), np_merge(model, x, "m"))


def test_the_whole_network_computes_what_the_paper_says():
    model = shared("swin")
    x = images(model)
    kernel, bias = weights(model, "stem_conv")
    y = np_layer_norm(model, np_conv(x / 127.5 - 1, kernel, 4) + bias, "stem_norm")
    for stage, depth, side in ((1, 2, 16), (2, 2, 8), (3, 6, 4), (4, 2, 2)):
        if stage > 1:
            y = np_merge(model, y, f"stage{stage}_merge")
        assert y.shape[1:3] == (side, side)
        for b in range(1, depth + 1):
            shift = 2 if side > 4 and b % 2 == 0 else 0  # a map of one window shifts nothing
            y = np_block(model, y, 2 ** (stage - 1), min(4, side), shift, f"stage{stage}_block{b}")
    expected = np_dense(model, np_layer_norm(model, y, "last_norm").mean((1, 2)), "head")
    assert_close(logits(model, x), expected)


@pytest.mark.parametrize("size, shift", [(3, 1), (4, 2), (4, 0)])
def test_a_token_sees_its_window_and_nothing_across_the_border(size, shift):
    side = 2 * size
    image = keras.Input((side, side, 4))
    model = jitter(keras.Model(image, window_attention(image, 2, size, shift, "a")))
    x = np.random.default_rng(0).normal(size=(1, side, side, 4)).astype("float32")
    one_changed = np.repeat(x, side**2, axis=0)
    for token in range(side**2):
        one_changed[token, token // side, token % side] += 1
    # A share of exp(-100), 4e-44, is nothing beside any other in float32; the bits stay the same.
    changed = (logits(model, one_changed) != logits(model, np.repeat(x, side**2, axis=0))).any(-1)
    assert np.array_equal(changed.reshape(side**2, side**2), together(side, size, shift))


def test_windows_keep_the_order_of_their_tokens():
    x = np.arange(2 * 4 * 6).reshape(2, 4, 6, 1)
    windows = keras.ops.convert_to_numpy(to_windows(x, 2))
    assert windows.shape == (2, 6, 4, 1)
    assert windows[0, 1, :, 0].tolist() == [2, 3, 8, 9]  # the second window of the first row
    assert windows[0, 3, :, 0].tolist() == [12, 13, 18, 19]  # the first one of the second row
    assert np.array_equal(keras.ops.convert_to_numpy(from_windows(windows, 2, 4)), x)


def test_every_second_block_shifts_by_half_a_window_while_there_are_several():
    model = create_model("swin_tiny", num_classes=0, width=4, num_heads=1)
    masks = [layer for layer in model.layers if isinstance(layer, ShiftedWindowMask)]
    shifted = [(1, 2), (2, 2), (3, 2), (3, 4), (3, 6)]  # stage 4 has 7 x 7 tokens: one window
    assert [mask.name for mask in masks] == [f"stage{s}_block{b}_attention_mask" for s, b in shifted]
    assert {mask.shift for mask in masks} == {3}


def test_a_map_smaller_than_a_window_is_one_window():
    sides = [layer.side for layer in shared("swin").layers if isinstance(layer, RelativePositionBias)]
    assert sides == [4] * 2 + [4] * 2 + [4] * 6 + [2] * 2


def test_drop_path_grows_linearly_from_0_to_its_rate():
    model = build("swin", drop_path_rate=0.3)
    rates = [layer.rate for layer in model.layers if isinstance(layer, DropPath)]
    assert rates == pytest.approx([0.3 * i / 11 for i in range(1, 12) for _ in range(2)])  # 12 blocks of 2 branches
    assert not [layer.name for layer in model.layers if layer.name.startswith("stage1_block1") and "drop" in layer.name]


def test_the_drop_path_rates_are_those_of_the_authors():
    names = ("tiny", "small", "base", "large")
    assert [get_variant(f"swin_{n}").option("drop_path_rate") for n in names] == [0.2, 0.3, 0.5, 0.2]


@pytest.mark.parametrize(
    "size, window_size, near",
    [(256, 7, "224 or 448 px"), (384, 7, "224 or 448 px"), (100, 7, "224 px"), (48, 4, "32 or 64 px")],
)
def test_an_image_that_whole_windows_do_not_cover_is_refused_with_sizes_that_fit(size, window_size, near):
    with pytest.raises(RecipeError, match=f"windows of {window_size} x {window_size} tokens .* such as {near}$"):
        build("swin", image_size=size, window_size=window_size)


def test_a_window_of_one_token_is_refused():
    with pytest.raises(RecipeError, match="a window is 2 tokens wide or more, not 1$"):
        build("swin", window_size=1)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(RecipeError, match="3 heads do not divide 4 channels"):
        build("swin", num_heads=3)


@pytest.mark.parametrize("num_classes", [0, 5])
def test_weights_come_over_to_another_window(num_classes, tmp_path):
    original, larger = jitter(build("swin")), build("swin", image_size=128, window_size=8, num_classes=num_classes)
    kcls.load_pretrained(larger, f"timm:{write_checkpoint(original, tmp_path)}")
    bias = "stage1_block2_attention_bias"
    assert larger.get_layer(bias).table.shape == (15**2, 1)
    assert np.array_equal(*(m.get_layer("stage4_block2_mlp_expand").get_weights()[0] for m in (original, larger)))


def test_the_buffers_of_older_checkpoints_are_ignored(tmp_path):
    from safetensors.numpy import load_file, save_file

    original, model = jitter(build("swin")), build("swin")
    file = write_checkpoint(original, tmp_path)
    buffers = {
        "layers.0.blocks.1.attn_mask": np.zeros((16, 16, 16), "float32"),
        "layers.0.blocks.1.attn.relative_position_index": np.zeros((16, 16), "int64"),
    }
    save_file(load_file(file) | buffers, file)
    kcls.load_pretrained(model, f"timm:{file}", normalization=False)
    assert np.array_equal(logits(model, images(model)), logits(original, images(model)))
