"""MobileNetV4 against NumPy, written from the paper; and where a path may be dropped."""

import keras
import numpy as np
import pytest
from numpy_reference import assert_close, relu
from test_inverted_residuals import Reference, both
from tiny import build, jitter, logits

from kcls.errors import RecipeError
from kcls.models.layers import DropPath
from kcls.models.mobilenet_v4 import universal_bottleneck


def np_bottleneck(reference, x, name, start, middle, stride, expansion):
    """Figure 4: depthwise, 1x1 and ReLU, depthwise and ReLU, linear 1x1; added to the input of the same shape."""
    y = x
    if start:
        y = reference.depthwise(y, f"{name}_start", start, 1 if middle else stride)
    y = relu(reference.conv(y, f"{name}_expand", 1))
    assert y.shape[-1] == expansion * x.shape[-1]
    if middle:
        y = relu(reference.depthwise(y, f"{name}_middle", middle, stride))
    y = reference.conv(y, f"{name}_project", 1)
    return x + y if x.shape == y.shape else y


KINDS = {"extra_dw": (3, 5), "inverted_bottleneck": (0, 3), "convnext": (5, 0), "feed_forward": (0, 0)}
CHANGES = [(kind, stride, width) for kind in KINDS for stride, width in ((1, 4), (1, 6), (2, 4))]
CHANGES.remove(("feed_forward", 2, 4))  # it has no convolution that could stride


@pytest.mark.parametrize("kind, stride, width", CHANGES)
def test_a_universal_bottleneck_computes_what_the_paper_says(kind, stride, width):
    image = keras.Input((9, 9, 4))
    numbers = (*KINDS[kind], stride, 3)
    y = universal_bottleneck(image, width, *numbers, drop_path_rate=0.0, name="b")
    model = jitter(keras.Model(image, y))
    x = np.random.default_rng(1).normal(size=(2, 9, 9, 4))
    assert_close(logits(model, x.astype("float32")), np_bottleneck(Reference(model, 1e-5, False), x, "b", *numbers))


# The tables of the appendix: stage, kernels of the two depthwise convolutions, stride, expansion.
CONV_S = [
    *[("stage3", 5, 5, 2, 3), *[("stage3", 0, 3, 1, 2)] * 4, ("stage3", 3, 0, 1, 4)],
    *[("stage4", 3, 3, 2, 6), ("stage4", 5, 5, 1, 4), ("stage4", 0, 5, 1, 4), ("stage4", 0, 5, 1, 3)],
    *[("stage4", 0, 3, 1, 4)] * 2,
]
CONV_M = [
    *[("stage2", 3, 5, 2, 4), ("stage2", 3, 3, 1, 2)],
    *[("stage3", 3, 5, 2, 6), *[("stage3", 3, 3, 1, 4)] * 2, ("stage3", 3, 5, 1, 4), ("stage3", 3, 3, 1, 4)],
    *[("stage3", 3, 0, 1, 4), ("stage3", 0, 0, 1, 2), ("stage3", 3, 0, 1, 4)],
    *[("stage4", 5, 5, 2, 6), ("stage4", 5, 5, 1, 4), *[("stage4", 3, 5, 1, 4)] * 2, ("stage4", 0, 0, 1, 4)],
    *[("stage4", 3, 0, 1, 4), ("stage4", 3, 5, 1, 2), ("stage4", 5, 5, 1, 4), *[("stage4", 0, 0, 1, 4)] * 2],
    ("stage4", 5, 0, 1, 2),
]


def np_mobilenet_v4(reference, x, rows, fused):
    x = relu(reference.conv(x, "stem", 3, 2))
    if fused:
        x = relu(reference.conv(x, "stage1_block1_fused", 3, 2))
        x = reference.conv(x, "stage1_block1_project", 1)
    else:
        for stage in ("stage1", "stage2"):
            x = relu(reference.conv(x, f"{stage}_block1", 3, 2))
            x = relu(reference.conv(x, f"{stage}_block2", 1))
    stage, block = "", 0
    for row in rows:
        stage, block = (stage, block + 1) if row[0] == stage else (row[0], 1)
        x = np_bottleneck(reference, x, f"{stage}_block{block}", *row[1:])
    x = relu(reference.conv(x, "last", 1)).mean(axis=(1, 2), keepdims=True)
    return reference.head(relu(reference.conv(x, "features", 1))[:, 0, 0])


@pytest.mark.parametrize("label, rows, fused", [("mobilenet_v4", CONV_S, False), ("mobilenet_v4_fused", CONV_M, True)])
def test_a_mobilenet_v4_computes_what_the_paper_says(label, rows, fused):
    model = build(label, image_size=72)  # maps of 9 and 5, so that a pad on one side would show
    assert_close(*both(model, lambda reference, x: np_mobilenet_v4(reference, x, rows, fused), 1e-5, same=False))


def test_drop_path_grows_by_the_same_step_from_0_in_the_first_universal_bottleneck():
    rates = [layer.rate for layer in build("mobilenet_v4", drop_path_rate=0.6).layers if isinstance(layer, DropPath)]
    # 12 bottlenecks, of which the first of each stage has no shortcut.
    assert rates == pytest.approx([0.6 * i / 12 for i in range(12) if i not in (0, 6)])


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(width=0.0), "width and stem are above 0, not 0.0 and 32$"),
        (dict(stem=0), "width and stem are above 0, not 0.1 and 0$"),
        (dict(drop_path_rate=1.0), "a probability from 0 to below 1, not 1.0$"),
    ],
)
def test_a_network_without_size_or_with_an_impossible_rate_is_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        build("mobilenet_v4", **options)
