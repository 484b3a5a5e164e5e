"""Wide ResNet and SpinalNet's head, against NumPy written from the papers."""

import keras
import numpy as np
import pytest
from numpy_reference import assert_close, np_conv, np_conv_norm, np_max_pool, np_norm, relu, weights
from parity import report
from tiny import images, jitter, logits

from kcls.errors import RecipeError
from kcls.models import create_model
from kcls.models.spinalnet import spinal_head


def convolve(model, x, name, stride=1):
    (kernel,) = weights(model, f"{name}_conv")
    return np_conv(x, kernel, stride, kernel.shape[0] // 2)


def activate(model, x, name):
    return relu(np_norm(x, *weights(model, f"{name}_norm")))


def linear(model, x, name):
    kernel, bias = weights(model, name)
    return x @ kernel + bias


@pytest.mark.parametrize("name", ["wrn_16_8", "wrn_28_2", "wrn_28_10", "wrn_40_10"])
def test_a_wide_network_computes_what_the_paper_says(name):
    model = jitter(create_model(name, num_classes=5, image_size=8, units=2, width=2))
    x = images(model)
    y = convolve(model, x / 127.5 - 1, "stem")
    for stage in (1, 2, 3):
        for u in (1, 2):
            unit = f"stage{stage}_unit{u}"
            stride = 2 if (stage > 1 and u == 1) else 1
            a = activate(model, y, f"{unit}_1")
            f = convolve(model, activate(model, convolve(model, a, f"{unit}_1", stride), f"{unit}_2"), f"{unit}_2")
            y = f + (y if u > 1 else convolve(model, a, f"{unit}_shortcut", stride))
    expected = linear(model, activate(model, y, "last").mean(axis=(1, 2)), "head")
    report(name, logits(model, x), expected, "NumPy", 1e-5)  # float32, 16 layers: 2e-6 at most


def test_widening_makes_every_unit_wider_and_not_the_stem():
    model = create_model("wrn_28_10", num_classes=0, units=1, width=2)
    convs = {layer.name: layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}
    assert convs.pop("stem_conv") == 2
    assert {name: width for name, width in convs.items()} == {
        f"stage{s}_unit1_{part}_conv": width for s, width in ((1, 20), (2, 40), (3, 80)) for part in (1, 2, "shortcut")
    }


def test_dropout_stands_between_the_activation_and_the_second_convolution_of_each_unit():
    model = create_model("wrn_28_2", num_classes=5, image_size=8, units=1, width=4, block_drop_rate=0.3)
    drops = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.name for layer in drops] == [f"stage{s}_unit1_drop" for s in (1, 2, 3)]
    for layer in drops:
        assert layer.rate == 0.3
        unit = layer.name.removesuffix("_drop")
        assert layer.input is model.get_layer(f"{unit}_2_relu").output
        assert layer.output is model.get_layer(f"{unit}_2_conv").input


def test_without_a_rate_there_is_no_dropout():
    model = create_model("wrn_28_2", num_classes=5, image_size=8, units=1, width=4)
    assert not [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]


@pytest.mark.parametrize("rate", [-0.1, 1])
def test_a_rate_outside_its_range_is_refused(rate):
    with pytest.raises(RecipeError, match="fraction from 0 to below 1"):
        create_model("wrn_28_2", num_classes=5, block_drop_rate=rate)


def test_only_the_3x3_of_a_wide_bottleneck_is_wider_than_in_resnet50():
    def widths(name):
        model = create_model(name, num_classes=0, image_size=32, width=4)
        convs = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
        return {layer.name: (layer.kernel.shape[2], layer.filters) for layer in convs}

    wide, resnet = widths("wide_resnet50_2"), widths("resnet50")
    double = {"1": (1, 2), "2": (2, 2), "3": (2, 1)}  # input and output of the first, second and third convolution
    for name, (inputs, outputs) in resnet.items():
        i, o = double.get(name.split("_")[-2], (1, 1))
        assert wide.pop(name) == (i * inputs, o * outputs)
    assert not wide


def np_spinal_head(model, x):
    """Four layers on the halves of the features in turn, each beside what the layer before says."""
    first, second = np.split(x, 2, axis=1)
    seen = []
    for i, half in enumerate((first, second, first, second), 1):
        given = np.concatenate([half] + seen[-1:], axis=1)
        y = np_norm(linear(model, given, f"head_layer{i}_dense"), *weights(model, f"head_layer{i}_norm"))
        seen.append(relu(y))
    return linear(model, np.concatenate(seen, axis=1), "head")


def test_a_spinal_head_computes_what_the_paper_says():
    features = keras.Input((24,))
    model = jitter(keras.Model(features, spinal_head(features, 5)))
    x = np.random.default_rng(0).normal(size=(3, 24))
    assert_close(logits(model, x.astype("float32")), np_spinal_head(model, x))


def test_the_layers_of_a_spinal_head_are_a_quarter_of_the_features_wide_and_half_dropped():
    features = keras.Input((2048,))
    with keras.StatelessScope():
        model = keras.Model(features, spinal_head(features, 10))
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert [(layer.kernel.shape) for layer in dense] == [(1024, 512)] + 3 * [(1536, 512)] + [(2048, 10)]
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.5] * 5


def test_features_that_four_layers_cannot_share_are_refused():
    with pytest.raises(ValueError, match="a multiple of 4 features, not 6"):
        spinal_head(keras.Input((6,)), 5)


@pytest.mark.heavy
def test_the_spinal_network_computes_what_the_papers_say():
    name = "wide_resnet101_2_spinal"
    model = jitter(create_model(name, num_classes=5, image_size=32, width=2))
    x = images(model)
    y = np_max_pool(relu(np_conv_norm(model, x / 127.5 - 1, "stem", 2)))
    for stage, depth in enumerate((3, 4, 23, 3), 1):
        for u in range(1, depth + 1):
            unit = f"stage{stage}_unit{u}"
            stride = 2 if (stage > 1 and u == 1) else 1
            f = relu(np_conv_norm(model, y, f"{unit}_1"))
            f = relu(np_conv_norm(model, f, f"{unit}_2", stride))
            f = np_conv_norm(model, f, f"{unit}_3")
            y = relu(f + (y if u > 1 else np_conv_norm(model, y, f"{unit}_shortcut", stride)))
    report(name, logits(model, x), np_spinal_head(model, y.mean(axis=(1, 2))), "NumPy", 1e-4)
