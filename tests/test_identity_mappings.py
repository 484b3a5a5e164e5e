"""Tables 1 and 2 of "Identity Mappings in Deep Residual Networks", against NumPy written from the paper."""

import keras
import numpy as np
import pytest
from numpy_reference import np_conv, np_conv_norm, np_norm, relu, weights
from parity import report
from tiny import images, jitter, logits

from kcls.errors import RecipeError
from kcls.models import create_model
from kcls.models.identity_mappings import dropped_shortcut

# Float32 rounds at 6e-8, and a twin has 14 or 20 layers: 1e-6 at most of all rows. The full networks of Table 1 amplify
# rounding to a third of the logits' deviation, so twins are compared.
TOLERANCE = 1e-5


def twin(name, **options):
    """The network with 2 units a stage, random weights, and images for it."""
    model = jitter(create_model(name, num_classes=5, image_size=8, units=2, width=4, **options))
    return model, images(model)


def units():
    """Stride and name of the units of a twin."""
    return [(2 if s > 1 and u == 1 else 1, f"stage{s}_unit{u}") for s in (1, 2, 3) for u in (1, 2)]


def head(model, x):
    kernel, bias = weights(model, "head")
    return x.mean(axis=(1, 2)) @ kernel + bias


def option_a(x, shape, stride):
    """Every stride-th pixel, and zeros for the channels that are new."""
    padded = np.zeros(shape)
    padded[..., : x.shape[-1]] = x[:, ::stride, ::stride]
    return padded


def gate(model, x, name, stride):
    kernel, bias = weights(model, f"{name}_gate_conv")
    return 1 / (1 + np.exp(-(np_conv(x, kernel, stride) + bias)))


# Shortcut h, residual f and gate g -> their sum.
SCALES = {
    "resnet110_const_0_1": lambda h, f: 0 * h + f,
    "resnet110_const_05_1": lambda h, f: h / 2 + f,
    "resnet110_const_05_05": lambda h, f: (h + f) / 2,
    "resnet110_dropout_shortcut": lambda h, f: h + f,
    "resnet110_conv_shortcut": lambda h, f: h + f,
}
GATES = {
    "resnet110_exclusive_gating": lambda h, f, g: h + g * (f - h),
    "resnet110_shortcut_gating": lambda h, f, g: h - g * h + f,
}


@pytest.mark.parametrize("name", [*SCALES, *GATES])
def test_a_network_of_table_1_computes_what_the_paper_says(name):
    model, x = twin(name)
    y = relu(np_conv_norm(model, x / 127.5 - 1, "stem"))
    for stride, unit in units():
        f = np_conv_norm(model, relu(np_conv_norm(model, y, f"{unit}_1", stride)), f"{unit}_2")
        if name == "resnet110_conv_shortcut":
            h = np_conv_norm(model, y, f"{unit}_shortcut", stride)
        else:
            h = option_a(y, f.shape, stride)
        y = relu(GATES[name](h, f, gate(model, y, unit, stride)) if name in GATES else SCALES[name](h, f))
    report(name, logits(model, x), head(model, y), "NumPy", TOLERANCE)


# Figure 4 for two convolutions: what stands on the residual branch, and what after the sum.
FIGURE_4 = {
    "original": ("conv bn relu conv bn", "relu"),
    "bn_after_add": ("conv bn relu conv", "bn relu"),
    "relu_before_add": ("conv bn relu conv bn relu", ""),
    "relu_only_preact": ("relu conv bn relu conv bn", ""),
    "preact": ("bn relu conv bn relu conv", ""),
}
# The same with a third convolution in the middle.
BOTTLENECKS = {
    "original": ("conv bn relu conv bn relu conv bn", "relu"),
    "bn_after_add": ("conv bn relu conv bn relu conv", "bn relu"),
    "relu_before_add": ("conv bn relu conv bn relu conv bn relu", ""),
    "relu_only_preact": ("relu conv bn relu conv bn relu conv bn", ""),
    "preact": ("bn relu conv bn relu conv bn relu conv", ""),
}
TABLE_2 = {
    "resnet164": BOTTLENECKS["original"],
    "resnet1001_preact": BOTTLENECKS["preact"],
    **{f"resnet110_{kind}": FIGURE_4[kind] for kind in FIGURE_4 if kind != "original"},
    **{f"resnet164_{kind}": BOTTLENECKS[kind] for kind in BOTTLENECKS if kind != "original"},
}


def chain(model, x, steps, layers, stride=1):
    """Applies steps such as ["bn", "relu", "conv"]; ``layers`` yields the names of each kind of step in turn."""
    for step in steps:
        if step == "relu":
            x = relu(x)
        elif step == "bn":
            x = np_norm(x, *weights(model, f"{next(layers['bn'])}_norm"))
        else:
            (kernel,) = weights(model, f"{next(layers['conv'])}_conv")
            x = np_conv(x, kernel, stride, kernel.shape[0] // 2)
            stride = 1  # only the first convolution of a unit has one
    return x


@pytest.mark.parametrize("name", TABLE_2)
def test_a_network_of_table_2_computes_what_the_paper_says(name):
    branch, after = (steps.split() for steps in TABLE_2[name])
    first = branch.index("conv")
    activation, branch = branch[:first], branch[first:]  # what both paths may share, and the residual
    preactivated = bool(activation)
    model, x = twin(name)

    def names(unit):
        return {kind: iter([f"{unit}_1", f"{unit}_2", f"{unit}_3"]) for kind in ("bn", "conv")}

    def once(unit):
        return {kind: iter([unit]) for kind in ("bn", "conv")}

    stem = {True: "conv bn", False: "conv"}["bn" not in activation] if preactivated else "conv bn relu"
    y = chain(model, x / 127.5 - 1, stem.split(), once("stem"))
    for stride, unit in units():
        layers = names(unit)
        activated = chain(model, y, activation, layers)
        f = chain(model, activated, branch, layers, stride)
        if preactivated and unit == "stage1_unit1":
            y = activated  # section 4.1
        if y.shape == f.shape or name.startswith("resnet110"):
            h = option_a(y, f.shape, stride)
        elif preactivated:
            h = chain(model, activated, ["conv"], once(f"{unit}_shortcut"), stride)
        else:
            h = chain(model, y, ["conv", "bn"], once(f"{unit}_shortcut"), stride)
        y = chain(model, h + f, after, once(unit))
    y = chain(model, y, activation, once("last"))
    report(name, logits(model, x), head(model, y), "NumPy", TOLERANCE)


@pytest.mark.parametrize("name", GATES)
def test_gate_bias_is_the_first_value_of_every_gates_bias(name):
    model = create_model(name, num_classes=5, image_size=8, units=1, gate_bias=-6)
    gates = [layer for layer in model.layers if layer.name.endswith("_gate_conv")]
    assert len(gates) == 3
    assert all((weights(model, layer.name)[1] == -6).all() for layer in gates)


def test_a_gate_that_is_shut_leaves_the_original_network():
    gated, x = twin("resnet110_shortcut_gating")
    original, _ = twin("resnet110")
    for layer in original.layers:
        if layer.weights:
            layer.set_weights(gated.get_layer(layer.name).get_weights())
    for layer in gated.layers:
        if layer.name.endswith("_gate_conv"):
            kernel, bias = layer.get_weights()
            layer.set_weights([0 * kernel, 0 * bias - 100])  # the sigmoid of -100 is 4e-44, so 1 - g is 1
    assert np.array_equal(logits(gated, x), logits(original, x))


@pytest.mark.parametrize("name", ["resnet110_const_05_1", "resnet110_preact"])
def test_a_network_without_gates_refuses_a_gate_bias(name):
    with pytest.raises(RecipeError, match=f"model '{name}' has no option 'gate_bias'"):
        create_model(name, num_classes=5, gate_bias=-6)


def test_dropout_is_on_the_shortcut_alone_and_in_training_only():
    x, f = keras.Input((8, 8, 4)), keras.Input((8, 8, 4))
    model = keras.Model([x, f], dropped_shortcut(x, f, 1, "u"))
    values = [np.full((2, 8, 8, 4), value, "float32") for value in (1, 10)]
    dropped = keras.ops.convert_to_numpy(model(values, training=True))
    assert set(np.unique(dropped)) == {10, 12}
    assert 0.3 < (dropped == 10).mean() < 0.7  # 512 draws of a half: 9 deviations on either side
    assert (keras.ops.convert_to_numpy(model(values, training=False)) == 11).all()


@pytest.mark.parametrize("units", [0, -1])
@pytest.mark.parametrize("name", ["resnet110_const_0_1", "resnet110_shortcut_gating", "resnet164", "resnet164_preact"])
def test_a_network_without_units_is_refused(name, units):
    with pytest.raises(RecipeError, match=f"1 or more, not {units}$"):
        create_model(name, num_classes=5, units=units)
