"""MobileNetV2, MobileNetV3 and EfficientNet against NumPy, written from the papers; and what their options do."""

from math import ceil

import keras
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy_reference import assert_close, weights
from parity import report
from tiny import build, images, jitter, logits

from kcls.errors import RecipeError
from kcls.models import create_model
from kcls.models.blocks import inverted_residual, round_width
from kcls.models.layers import DropPath


def relu(x):
    return np.maximum(x, 0)


def relu6(x):
    return np.clip(x, 0, 6)


def hard_sigmoid(x):
    return relu6(x + 3) / 6


def hard_swish(x):
    return x * hard_sigmoid(x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def swish(x):
    return x * sigmoid(x)


class Reference:
    """The layers of the papers, with the weights of a model: ``same`` pads as TensorFlow, else as PyTorch."""

    def __init__(self, model, epsilon, same):
        self.model, self.epsilon, self.same = model, epsilon, same

    def norm(self, x, name):
        gamma, beta, mean, variance = weights(self.model, name)
        return gamma * (x - mean) / np.sqrt(variance + self.epsilon) + beta

    def windows(self, x, kernel, stride):
        """(B, H', W', C, kernel, kernel)."""
        margins = []
        for size in x.shape[1:3]:
            missing = max((ceil(size / stride) - 1) * stride + kernel - size, 0)
            margins.append((missing // 2, missing - missing // 2) if self.same else (kernel // 2, kernel // 2))
        x = np.pad(x, [(0, 0), *margins, (0, 0)])
        return sliding_window_view(x, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]

    def conv(self, x, name, kernel, stride=1):
        (values,) = weights(self.model, f"{name}_conv")
        assert values.shape[:3] == (kernel, kernel, x.shape[-1])
        x = np.einsum("bhwcij,ijcd->bhwd", self.windows(x, kernel, stride), values, optimize=True)
        return self.norm(x, f"{name}_norm")

    def depthwise(self, x, name, kernel, stride):
        (values,) = weights(self.model, f"{name}_conv")
        assert values.shape == (kernel, kernel, x.shape[-1], 1)
        x = np.einsum("bhwcij,ijc->bhwc", self.windows(x, kernel, stride), values[..., 0], optimize=True)
        return self.norm(x, f"{name}_norm")

    def excite(self, x, name, hidden, act, gate):
        (w1, b1), (w2, b2) = weights(self.model, f"{name}_reduce"), weights(self.model, f"{name}_expand")
        assert b1.shape == (hidden,)
        s = act(x.mean(axis=(1, 2)) @ w1[0, 0] + b1) @ w2[0, 0] + b2
        return x * gate(s)[:, None, None, :]

    def block(self, x, name, kernel, stride, expanded, act, excite=None):
        """MobileNetV2, Figure 4d: 1x1 and act, depthwise and act, linear 1x1; added to the input of the same shape."""
        y = x
        if expanded != x.shape[-1]:
            y = act(self.conv(y, f"{name}_expand", 1))
        assert y.shape[-1] == expanded
        y = act(self.depthwise(y, f"{name}_depthwise", kernel, stride))
        y = self.excite(y, f"{name}_se", *excite) if excite else y
        y = self.conv(y, f"{name}_project", 1)
        return x + y if x.shape == y.shape else y

    def head(self, x):
        kernel, bias = weights(self.model, "head")
        return x @ kernel + bias


ACTS = {"relu": relu, "relu6": relu6, "silu": swish, "hard_silu": hard_swish}
GATES = {"sigmoid": sigmoid, "hard_sigmoid": hard_sigmoid}


@pytest.mark.parametrize("act, se_hidden, se_act, gate", [("relu6", 0, "", ""), ("silu", 2, "silu", "sigmoid")])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("kernel, stride, width, expanded", [(3, 1, 8, 8), (5, 1, 8, 24), (3, 2, 8, 16), (5, 2, 4, 8)])
def test_a_block_computes_what_the_papers_say(kernel, stride, width, expanded, same, act, se_hidden, se_act, gate):
    image = keras.Input((10, 10, 8))
    squeeze = dict(se_hidden=se_hidden, se_act=se_act, se_gate=gate) if se_hidden else {}
    padding = "same" if same else None
    y = inverted_residual(
        image, width, kernel, stride, expanded=expanded, act=act, padding=padding, **squeeze, name="b"
    )
    model = jitter(keras.Model(image, y))
    x = np.random.default_rng(1).normal(size=(2, 10, 10, 8))
    excite = (se_hidden, ACTS[se_act], GATES[gate]) if se_hidden else None
    expected = Reference(model, 1e-5, same).block(x, "b", kernel, stride, expanded, ACTS[act], excite)
    assert_close(logits(model, x.astype("float32")), expected)


def both(model, np_network, epsilon, same):
    """The logits of a jittered model, ours and those of NumPy."""
    x = images(model)
    expected = np_network(Reference(jitter(model), epsilon, same), x.astype("float64") / 127.5 - 1)
    assert (expected[0] - expected[1]).std() > 0.01 * expected.std()  # they do depend on the image
    return logits(model, x), expected


def np_efficientnet(reference, x, lite=False):
    """Table 1 of the EfficientNet paper, at half its depth; lite has ReLU6 and nothing squeezed."""
    act = relu6 if lite else swish
    x = act(reference.conv(x, "stem", 3, 2))
    rows = [(1, 3, 1, 1), (6, 3, 2, 1), (6, 5, 2, 1), (6, 3, 2, 2), (6, 5, 1, 2), (6, 5, 2, 2), (6, 3, 1, 1)]
    for s, (expansion, kernel, stride, repeats) in enumerate(rows, 1):
        for b in range(1, repeats + 1):
            channels = x.shape[-1]
            x = reference.block(
                x,
                f"stage{s}_block{b}",
                kernel,
                stride if b == 1 else 1,
                expansion * channels,
                act,
                None if lite else (channels // 4, swish, sigmoid),
            )
    x = act(reference.conv(x, "last", 1))
    return reference.head(x.mean(axis=(1, 2)))


@pytest.mark.parametrize("same", [True, False])
def test_an_efficientnet_computes_what_the_paper_says(same):
    name = "efficientnet_b6_wide"  # timm does not have it
    # 40 px: even and odd maps, which TensorFlow pads in different ways.
    model = build("efficientnet", name=name, image_size=40, same_padding=same)
    ours, expected = both(model, np_efficientnet, 1e-3, same)
    report(name, ours, expected, "NumPy", tolerance=1e-5)  # float32 rounds to 1e-6 along these 33 layers


@pytest.mark.parametrize("same", [True, False])
def test_an_efficientnet_lite_computes_what_its_authors_say(same):
    model = build("efficientnet_lite", image_size=40, same_padding=same)
    assert_close(*both(model, lambda reference, x: np_efficientnet(reference, x, lite=True), 1e-3, same))


def test_scaling_leaves_the_ends_of_an_efficientnet_lite_alone():
    model = build("efficientnet_lite", width=2.0, depth=3.0)
    assert model.get_layer("stem_conv").filters == 32 and model.get_layer("last_conv").filters == 1280
    blocks = [layer.name for layer in model.layers if layer.name.endswith("_project_conv")]
    repeats = [sum(name.startswith(f"stage{s}_") for name in blocks) for s in range(1, 8)]
    assert repeats == [1, 6, 6, 9, 9, 12, 1]


def np_mobilenet_v2(reference, x):
    """Table 2 of the MobileNetV2 paper."""
    x = relu6(reference.conv(x, "stem", 3, 2))
    rows = [(1, 1, 1), (6, 2, 2), (6, 3, 2), (6, 4, 2), (6, 3, 1), (6, 3, 2), (6, 1, 1)]
    for s, (t, n, stride) in enumerate(rows, 1):
        for b in range(1, n + 1):
            x = reference.block(x, f"stage{s}_block{b}", 3, stride if b == 1 else 1, t * x.shape[-1], relu6)
    x = relu6(reference.conv(x, "last", 1))
    return reference.head(x.mean(axis=(1, 2)))


def test_a_mobilenet_v2_computes_what_the_paper_says():
    model = build("mobilenet_v2", width=0.35, image_size=40)
    assert_close(*both(model, np_mobilenet_v2, 1e-5, same=False))


# Tables 1 and 2 of the MobileNetV3 paper: name, kernel, exp size / channels that come, SE, h-swish or ReLU, stride.
V3_LARGE = [
    ("stage1_block1", 3, 1, False, False, 1),
    ("stage2_block1", 3, 64 / 16, False, False, 2),
    ("stage2_block2", 3, 72 / 24, False, False, 1),
    ("stage3_block1", 5, 72 / 24, True, False, 2),
    ("stage3_block2", 5, 120 / 40, True, False, 1),
    ("stage3_block3", 5, 120 / 40, True, False, 1),
    ("stage4_block1", 3, 240 / 40, False, True, 2),
    ("stage4_block2", 3, 200 / 80, False, True, 1),
    ("stage4_block3", 3, 184 / 80, False, True, 1),
    ("stage4_block4", 3, 184 / 80, False, True, 1),
    ("stage5_block1", 3, 480 / 80, True, True, 1),
    ("stage5_block2", 3, 672 / 112, True, True, 1),
    ("stage6_block1", 5, 672 / 112, True, True, 2),
    ("stage6_block2", 5, 960 / 160, True, True, 1),
    ("stage6_block3", 5, 960 / 160, True, True, 1),
]
V3_SMALL = [
    ("stage1_block1", 3, 1, True, False, 2),
    ("stage2_block1", 3, 72 / 16, False, False, 2),
    ("stage2_block2", 3, 88 / 24, False, False, 1),
    ("stage3_block1", 5, 96 / 24, True, True, 2),
    ("stage3_block2", 5, 240 / 40, True, True, 1),
    ("stage3_block3", 5, 240 / 40, True, True, 1),
    ("stage4_block1", 5, 120 / 40, True, True, 1),
    ("stage4_block2", 5, 144 / 48, True, True, 1),
    ("stage5_block1", 5, 288 / 48, True, True, 2),
    ("stage5_block2", 5, 576 / 96, True, True, 1),
    ("stage5_block3", 5, 576 / 96, True, True, 1),
]


def np_mobilenet_v3(reference, x, rows):
    x = hard_swish(reference.conv(x, "stem", 3, 2))
    for name, kernel, expansion, excited, swished, stride in rows:
        expanded = np_round_width(expansion * x.shape[-1])
        excite = (np_round_width(expanded / 4), relu, hard_sigmoid) if excited else None
        x = reference.block(x, name, kernel, stride, expanded, hard_swish if swished else relu, excite)
    x = hard_swish(reference.conv(x, "last", 1))
    kernel, bias = weights(reference.model, "features")
    return reference.head(hard_swish(x.mean(axis=(1, 2)) @ kernel + bias))


def np_round_width(width):
    """The nearest multiple of 8 of those that are at least 90 % of the width."""
    candidates = [c for c in range(8, int(width) + 17, 8) if c >= 0.9 * width]
    return min(candidates, key=lambda c: (abs(c - width), -c))


@pytest.mark.parametrize(
    "name, rows, same", [("mobilenet_v3_large", V3_LARGE, True), ("mobilenet_v3_small", V3_SMALL, False)]
)
def test_a_mobilenet_v3_computes_what_the_paper_says(name, rows, same):
    model = build("mobilenet_v3", name=name, width=0.35, image_size=40, same_padding=same)
    assert_close(*both(model, lambda reference, x: np_mobilenet_v3(reference, x, rows), 1e-5, same))


@pytest.mark.parametrize("width, rounded", [(0.1, 8), (8, 8), (11.9, 16), (12, 16), (18, 24), (20, 24), (91, 88)])
def test_a_width_is_rounded_to_a_multiple_of_8_that_keeps_nine_tenths(width, rounded):
    assert round_width(width) == rounded == np_round_width(width)


def test_drop_path_grows_by_the_same_step_from_0_in_the_first_block():
    model = build("efficientnet", drop_path_rate=0.4)  # 10 blocks; the first and three others have shortcuts
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, DropPath)}
    expected = {"stage4_block2": 4, "stage5_block2": 6, "stage6_block2": 8}
    assert rates == {f"{name}_drop_path": pytest.approx(0.4 * i / 10) for name, i in expected.items()}


def test_the_head_of_an_efficientnet_starts_within_one_by_the_root_of_the_classes():
    keras.utils.set_random_seed(0)
    kernel, bias = build("efficientnet", num_classes=25).get_layer("head").get_weights()
    assert 0.19 < np.abs(kernel).max() <= 0.2  # 128 x 25 draws come close to the bound
    assert not bias.any()


def test_a_narrow_mobilenet_keeps_its_last_layer():
    assert create_model("mobilenet_v2", num_classes=0, width=0.35, image_size=32).output.shape == (None, 1280)


@pytest.mark.parametrize(
    "label, options, message",
    [
        ("efficientnet", dict(width=0.0), "width and depth are multipliers above 0, not 0.0 and 0.5$"),
        ("efficientnet", dict(depth=-1.0), "width and depth are multipliers above 0, not 0.1 and -1.0$"),
        ("efficientnet", dict(drop_path_rate=1.0), "a probability from 0 to below 1, not 1.0$"),
        ("efficientnet", dict(drop_path_rate=-0.1), "a probability from 0 to below 1, not -0.1$"),
        ("mobilenet_v2", dict(width=float("nan")), "width is a multiplier above 0, not nan$"),
        ("mobilenet_v3", dict(width=0.0), "width and features are above 0, not 0.0 and 32$"),
        ("mobilenet_v3", dict(features=0), "width and features are above 0, not 0.1 and 0$"),
    ],
)
def test_a_network_without_size_or_with_an_impossible_rate_is_refused(label, options, message):
    with pytest.raises(RecipeError, match=message):
        build(label, **options)
