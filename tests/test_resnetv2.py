"""ResNet v2 for ImageNet, against NumPy; against timm at full size: test_parity_timm.py."""

import keras
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy_reference import assert_close, np_conv, np_norm, relu, weights
from tiny import build, images, jitter, logits

from kcls.models.resnetv2 import stem


def convolve(model, x, name, stride=1):
    (kernel,) = weights(model, f"{name}_conv")
    return np_conv(x, kernel, stride, kernel.shape[0] // 2)


def activate(model, x, name):
    return relu(np_norm(x, *weights(model, f"{name}_norm")))


def max_pool(x):
    """3x3 with stride 2; what is outside of the map does not count."""
    x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    return sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(-2, -1))


@pytest.mark.parametrize("size", [32, 33, 35, 37])
def test_the_stem_pools_negative_values_at_the_border_too(size):
    # timm's random images hardly show it: of nine values around zero, one is positive.
    image = keras.Input((size, size, 3))
    model = keras.Model(image, stem(image, 4))
    kernel = model.get_layer("stem_conv").get_weights()[0]
    model.get_layer("stem_conv").set_weights([-np.abs(kernel)])
    x = np.random.default_rng(0).uniform(0.5, 1, (2, size, size, 3)).astype("float32")
    expected = max_pool(convolve(model, x, "stem", 2))
    assert expected.max() < 0
    assert_close(logits(model, x), expected)


def test_a_pre_activation_network_computes_what_the_paper_says():
    model = jitter(build("resnetv2"))
    x = images(model)
    y = max_pool(convolve(model, x / 127.5 - 1, "stem", 2))
    for stage, depth in enumerate((3, 4, 6, 3), 1):
        for u in range(1, depth + 1):
            unit = f"stage{stage}_unit{u}"
            stride = 2 if (stage > 1 and u == 1) else 1
            a = activate(model, y, f"{unit}_1")
            f = convolve(model, a, f"{unit}_1")
            f = convolve(model, activate(model, f, f"{unit}_2"), f"{unit}_2", stride)
            f = convolve(model, activate(model, f, f"{unit}_3"), f"{unit}_3")
            y = f + (y if u > 1 else convolve(model, a, f"{unit}_shortcut", stride))
    kernel, bias = weights(model, "head")
    assert_close(logits(model, x), activate(model, y, "last").mean(axis=(1, 2)) @ kernel + bias)
