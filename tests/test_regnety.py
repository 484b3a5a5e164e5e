"""RegNetY: the widths that its rule gives, and its block and network against NumPy, written from the paper."""

import keras
import numpy as np
import pytest
from numpy_reference import assert_close, np_norm, relu, weights
from tiny import build, images, jitter, logits

from kcls.errors import RecipeError
from kcls.models.layers import DropPath
from kcls.models.registry import get_variant
from kcls.models.regnety import block, stages

# Figure 16 and the appendix of the paper: blocks and width of each stage.
PUBLISHED = {
    "regnety_3_2g": ((2, 5, 13, 1), (72, 216, 576, 1512)),
    "regnety_4g": ((2, 6, 12, 2), (128, 192, 512, 1088)),
    "regnety_6_4g": ((2, 7, 14, 2), (144, 288, 576, 1296)),
    "regnety_8g": ((2, 4, 10, 1), (168, 448, 896, 2016)),
    "regnety_16g": ((2, 4, 11, 1), (224, 448, 1232, 3024)),
    "regnety_32g": ((2, 5, 12, 1), (232, 696, 1392, 3712)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_rule_gives_the_published_stages(name):
    widths, depths = zip(*stages(**get_variant(name).options), strict=True)
    assert (depths, widths) == PUBLISHED[name]


def test_a_stage_narrower_than_a_group_is_one_group():
    assert stages(depth=3, initial_width=8, slope=8.0, multiplier=2.0, group_width=12) == [(8, 1), (12, 1), (36, 1)]


def np_conv_norm(model, x, name, groups=1, stride=1):
    """Convolution with kernel // 2 zeros on each side, of the groups one by one; and batch norm."""
    (kernel,) = weights(model, f"{name}_conv")
    size, inputs, outputs = kernel.shape[0], kernel.shape[2], kernel.shape[3] // groups
    assert inputs * groups == x.shape[-1]
    x = np.pad(x, [(0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    parts = []
    for g in range(groups):
        part, values = windows[..., g * inputs : (g + 1) * inputs, :, :], kernel[..., g * outputs : (g + 1) * outputs]
        parts.append(np.einsum("bhwcij,ijcd->bhwd", part, values, optimize=True))
    return np_norm(np.concatenate(parts, axis=-1), *weights(model, f"{name}_norm"))


def np_block(model, x, stride, group_width, name):
    """The Y block: 1x1, 3x3 in groups, squeeze-and-excitation of a quarter of what came, 1x1; ReLU of the sum."""
    y = relu(np_conv_norm(model, x, f"{name}_1"))
    y = relu(np_conv_norm(model, y, f"{name}_2", y.shape[-1] // group_width, stride))
    (w1, b1), (w2, b2) = weights(model, f"{name}_se_reduce"), weights(model, f"{name}_se_expand")
    assert b1.size == x.shape[-1] / 4
    s = relu(y.mean(axis=(1, 2)) @ w1[0, 0] + b1) @ w2[0, 0] + b2
    y = np_conv_norm(model, y / (1 + np.exp(-s[:, None, None, :])), f"{name}_3")
    if x.shape != y.shape:
        x = np_conv_norm(model, x, f"{name}_shortcut", stride=stride)
    return relu(x + y)


@pytest.mark.parametrize("channels, width, stride", [(12, 12, 1), (12, 12, 2), (12, 18, 1)])
def test_a_block_computes_what_the_paper_says(channels, width, stride):
    image = keras.Input((9, 9, channels))
    model = jitter(keras.Model(image, block(image, width, stride, 6, 0.0, "b")))
    x = np.random.default_rng(1).normal(size=(2, 9, 9, channels))
    assert_close(logits(model, x.astype("float32")), np_block(model, x, stride, 6, "b"))


def test_a_network_computes_what_the_paper_says():
    model = jitter(build("regnety"))
    x = images(model)
    y = relu(np_conv_norm(model, x / 127.5 - 1, "stem", stride=2))
    for name, stride in [("1_block1", 2), ("2_block1", 2), ("2_block2", 1), ("2_block3", 1), ("3_block1", 2)]:
        y = np_block(model, y, stride, 4, f"stage{name}")
    kernel, bias = weights(model, "head")
    assert_close(logits(model, x), y.mean(axis=(1, 2)) @ kernel + bias)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(depth=0), "depth, initial_width and group_width are 1 or more, .* not 0, 8 and 4$"),
        (dict(group_width=0), "depth, initial_width and group_width are 1 or more, .* not 5, 8 and 0$"),
        (dict(initial_width=12), "initial_width a multiple of 8; not 5, 12 and 4$"),
        (dict(multiplier=1.0), "slope is 0 or more and multiplier above 1, not 4.0 and 1.0$"),
        (dict(slope=-1.0), "slope is 0 or more and multiplier above 1, not -1.0 and 2.0$"),
        (dict(drop_path_rate=1.0), "drop path rate is a probability from 0 to below 1, not 1.0$"),
    ],
)
def test_widths_that_do_not_grow_are_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        build("regnety", **options)


def test_drop_path_grows_linearly_to_its_rate_in_the_last_block():
    model = build("regnety", drop_path_rate=0.5)
    rates = [layer.rate for layer in model.layers if isinstance(layer, DropPath)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
