"""The same numbers as an implementation in NumPy that was written from the papers."""

import keras
import numpy as np
import pytest
from numpy_reference import assert_close, np_conv_norm, np_max_pool, np_norm, relu, weights
from parity import report
from tiny import build, images, jitter, logits, shared

from kcls.models.resnet import (
    basic,
    bottleneck,
    bottleneck_v1,
    pad_shortcut,
    projection,
    projection_where_needed,
    unit,
)

TOLERANCE = 1e-4  # float32 rounds to 1e-5 of the logits' deviation along 152 layers


# Strides of the convolutions of a unit with stride 2, in the paper and in "v1.5"; output channels / width.
UNITS = {basic: ((2, 1), 1), bottleneck: ((1, 2, 1), 4), bottleneck_v1: ((2, 1, 1), 4)}


def np_unit(model, x, residual, shortcut, stride, name="u"):
    """A unit written from section 3 of the paper: ReLU after each norm but the last, then after the sum."""
    strides, _ = UNITS[residual]
    y = x
    for i, s in enumerate(strides, 1):
        y = np_conv_norm(model, y, f"{name}_{i}", min(s, stride))
        y = relu(y) if i < len(strides) else y
    if shortcut is None:
        return relu(y)
    if shortcut is pad_shortcut:
        same = np.zeros_like(y)
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                same[:, i, j, : x.shape[3]] = x[:, i * stride, j * stride]
        return relu(same + y)
    if shortcut is projection or x.shape != y.shape:
        x = np_conv_norm(model, x, f"{name}_shortcut", stride)
    return relu(x + y)


@pytest.mark.parametrize("stride, channels, width", [(1, 8, 2), (2, 8, 4), (2, 8, 2), (1, 4, 3)])
@pytest.mark.parametrize("shortcut", [None, pad_shortcut, projection_where_needed, projection])
@pytest.mark.parametrize("residual", UNITS)
def test_a_unit_computes_what_the_paper_says(residual, shortcut, stride, channels, width):
    width = width if residual is not basic else max(4 * width, channels)
    image = keras.Input((9, 9, channels))
    model = jitter(keras.Model(image, unit(image, residual, shortcut, width, stride, 0.0, "u")))
    x = np.random.default_rng(1).normal(size=(2, 9, 9, channels))
    expected = np_unit(model, x, residual, shortcut, stride)
    assert expected.shape[-1] == UNITS[residual][1] * width
    assert_close(logits(model, x.astype("float32")), expected)


def test_option_a_takes_every_second_pixel_and_adds_zero_channels_at_the_end():
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 3)).astype("float32")
    y = keras.ops.zeros((2, 3, 3, 8))
    expected = np.zeros((2, 3, 3, 8), "float32")
    expected[..., :3] = x[:, [0, 2, 4]][:, :, [0, 2, 4]]
    assert np.array_equal(keras.ops.convert_to_numpy(pad_shortcut(keras.ops.convert_to_tensor(x), y, 2, "a")), expected)


def np_units(model, y, residual, shortcut, depths):
    """All units, the mean of the last map, and the head."""
    for stage, depth in enumerate(depths, 1):
        for u in range(1, depth + 1):
            stride = 2 if (stage > 1 and u == 1) else 1
            y = np_unit(model, y, residual, shortcut, stride, f"stage{stage}_unit{u}")
    kernel, bias = weights(model, "head")
    return y.mean(axis=(1, 2)) @ kernel + bias


@pytest.mark.parametrize("name", ["resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202"])
def test_a_cifar_network_computes_what_the_paper_says(name):
    # With two units a stage: how many there are is proven by the counts.
    model = jitter(build("cifar", name=name, units=2))
    x = images(model)
    y = relu(np_conv_norm(model, x / 127.5 - 1, "stem"))
    expected = np_units(model, y, basic, pad_shortcut, (2, 2, 2))
    report(name, logits(model, x), expected, "NumPy", TOLERANCE)


# Sections 4.1 and 3.3, Table 1: residual, shortcut, units of each stage. v1 is what the paper describes.
IMAGENET = {
    "plain18": (basic, None, (2, 2, 2, 2)),
    "plain34": (basic, None, (3, 4, 6, 3)),
    "resnet34_a": (basic, pad_shortcut, (3, 4, 6, 3)),
    "resnet34_c": (basic, projection, (3, 4, 6, 3)),
    "resnet50_v1": (bottleneck_v1, projection_where_needed, (3, 4, 6, 3)),
    "resnet101_v1": (bottleneck_v1, projection_where_needed, (3, 4, 23, 3)),
    "resnet152_v1": (bottleneck_v1, projection_where_needed, (3, 8, 36, 3)),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.heavy) if n in ("resnet101_v1", "resnet152_v1") else n for n in IMAGENET]
)
def test_an_imagenet_network_without_counterpart_in_timm_computes_what_the_paper_says(name):
    model = jitter(build("basic_b", name=name, image_size=64))
    x = images(model)
    y = np_max_pool(relu(np_conv_norm(model, x / 127.5 - 1, "stem", 2)))
    report(name, logits(model, x), np_units(model, y, *IMAGENET[name]), "NumPy", TOLERANCE)


@pytest.mark.parametrize("label, depth", [("simple_cnn_m3", 10), ("simple_cnn_m5", 5), ("simple_cnn_m7", 4)])
def test_a_simple_cnn_computes_what_the_paper_says(label, depth):
    model = shared(label)
    x = images(model)
    y = (x / 127.5 - 1).mean(axis=-1, keepdims=True)
    for i in range(1, depth + 1):
        y = relu(np_conv_norm(model, y, f"conv{i}", padding=0))
    (kernel,) = weights(model, "head")
    expected = np_norm(y.reshape(2, -1) @ kernel, *weights(model, "head_norm"))
    report(label, logits(model, x), expected, "NumPy", TOLERANCE)
