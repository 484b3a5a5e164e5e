"""The same numbers as an implementation in NumPy that was written from the papers."""

import keras
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
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

EPSILON = 1e-5  # of the residual networks' own code


def np_conv(x, kernel, stride=1, padding=0):
    """Cross-correlation (B, H, W, C), (h, w, C, D) -> (B, H', W', D) with zeros on each side."""
    x = np.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    windows = sliding_window_view(x, kernel.shape[:2], axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("bhwcij,ijcd->bhwd", windows, kernel, optimize=True)


def np_norm(x, gamma, beta, mean, variance):
    """Batch norm at inference."""
    return gamma * (x - mean) / np.sqrt(variance + EPSILON) + beta


def weights(model, layer):
    """The weights of a layer, in float64."""
    return [w.astype("float64") for w in model.get_layer(layer).get_weights()]


def np_conv_norm(model, x, name, stride=1, padding=None):
    """Convolution and batch norm with the weights of a model's layers."""
    (kernel,) = weights(model, f"{name}_conv")
    x = np_conv(x, kernel, stride, kernel.shape[0] // 2 if padding is None else padding)
    return np_norm(x, *weights(model, f"{name}_norm"))


def relu(x):
    return np.maximum(x, 0)


def assert_close(ours, expected):
    """Equal up to float32: each layer sums up to a few thousand products that are rounded at 6e-8 each."""
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() < 1e-5 * np.abs(expected).max()


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


def test_a_cifar_network_computes_what_the_paper_says():
    model = jitter(build("cifar", units=2))
    x = images(model)
    y = relu(np_conv_norm(model, x / 127.5 - 1, "stem"))
    for stage in (1, 2, 3):
        for u in (1, 2):
            stride = 2 if (stage > 1 and u == 1) else 1
            y = np_unit(model, y, basic, pad_shortcut, stride, f"stage{stage}_unit{u}")
    kernel, bias = weights(model, "head")
    assert_close(logits(model, x), y.mean(axis=(1, 2)) @ kernel + bias)


@pytest.mark.parametrize("label, depth", [("simple_cnn_m3", 10), ("simple_cnn_m5", 5), ("simple_cnn_m7", 4)])
def test_a_simple_cnn_computes_what_the_paper_says(label, depth):
    model = shared(label)
    x = images(model)
    y = (x / 127.5 - 1).mean(axis=-1, keepdims=True)
    for i in range(1, depth + 1):
        y = relu(np_conv_norm(model, y, f"conv{i}", padding=0))
    (kernel,) = weights(model, "head")
    assert_close(logits(model, x), np_norm(y.reshape(2, -1) @ kernel, *weights(model, "head_norm")))
