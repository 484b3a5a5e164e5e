"""DenseNet is what its paper says: NumPy from the text, for the networks that other libraries lack."""

import keras
import numpy as np
import pytest
from numpy_reference import assert_close, np_conv, np_conv_norm, np_max_pool, np_norm, relu, weights
from parity import report
from tiny import build, images, jitter, logits, shared

from kcls.errors import RecipeError
from kcls.models import create_model
from kcls.models.densenet import bottleneck, densenet, plain, transition, unit
from kcls.models.registry import linear_head, normalize

# Float32 rounds the sum of up to a thousand products in each of some hundred layers: 1e-6 measured. A swapped
# concatenation, or a norm or ReLU that is missing, costs 0.1 or more.
TOLERANCE = 1e-4


def np_norm_relu_conv(model, x, name):
    """H of section 3: batch norm, then ReLU, then a convolution that keeps the size."""
    (kernel,) = weights(model, f"{name}_conv")
    return np_conv(relu(np_norm(x, *weights(model, f"{name}_norm"))), kernel, padding=kernel.shape[0] // 2)


def np_unit(model, x, convolutions, name):
    """Equation 2: the channels of all layers before, and then the new ones."""
    y = x
    for i in range(1, convolutions + 1):
        y = np_norm_relu_conv(model, y, f"{name}_{i}")
    return np.concatenate([x, y], axis=-1)


def np_halve(x):
    """Means of 2 x 2 pixels; an odd last row or column is left out."""
    b, h, w, c = x.shape
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def np_densenet(model, x, depths, convolutions):
    """Dense blocks with transitions between them, and the classifier: output of the stem -> logits."""
    for stage, depth in enumerate(depths, 1):
        if stage > 1:
            x = np_halve(np_norm_relu_conv(model, x, f"transition{stage - 1}"))
        for u in range(1, depth + 1):
            x = np_unit(model, x, convolutions, f"stage{stage}_unit{u}")
    x = relu(np_norm(x, *weights(model, "final_norm")))
    kernel, bias = weights(model, "head")
    return x.mean(axis=(1, 2)) @ kernel + bias


def settled(model, x):
    """The jittered model with moving statistics near the true ones of ``x``: else the signal fades or explodes.

    Half of the gammas are negative. With positive ones a ReLU too many before a norm hardly shows, since the
    norm's own ReLU cuts off the same values.
    """
    jitter(model)
    rng = np.random.default_rng(1)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.gamma.assign(norm.gamma.numpy() * rng.choice([-1, 1], norm.gamma.shape))
        norm.momentum = 0.0  # one training pass: the moving statistics become those of x
    model(x, training=True)
    for norm in norms:
        std = np.sqrt(norm.moving_variance.numpy())
        norm.moving_mean.assign_add(rng.normal(0, 0.1, std.shape) * std)
        norm.moving_variance.assign(std**2 * rng.uniform(0.8, 1.25, std.shape))
    return model


@pytest.mark.parametrize("new_features, convolutions, inside", [(plain, 1, 3), (bottleneck, 2, 12)])
def test_a_unit_computes_what_the_paper_says(new_features, convolutions, inside):
    image = keras.Input((5, 7, 6))
    model = jitter(keras.Model(image, unit(image, new_features, 3, 0.0, "u")))
    x = np.random.default_rng(1).normal(size=(2, 5, 7, 6))
    expected = np_unit(model, x, convolutions, "u")
    assert expected.shape == (2, 5, 7, 9)
    assert model.get_layer("u_1_conv").filters == inside  # 4k behind a 1x1 convolution
    assert_close(logits(model, x.astype("float32")), expected)


def test_a_transition_rounds_its_channels_and_its_size_down():
    image = keras.Input((5, 7, 9))
    model = jitter(keras.Model(image, transition(image, 0.5, 0.0, "t")))
    x = np.random.default_rng(1).normal(size=(2, 5, 7, 9))
    expected = np_halve(np_norm_relu_conv(model, x, "t"))
    assert expected.shape == (2, 2, 3, 4)
    assert_close(logits(model, x.astype("float32")), expected)


@pytest.mark.parametrize(
    "name, convolutions",
    [
        ("densenet_40_12", 1),
        ("densenet_100_12", 1),
        ("densenet_100_24", 1),
        ("densenet_bc_100_12", 2),
        ("densenet_bc_190_40", 2),
        ("densenet_bc_250_24", 2),
    ],
)
def test_a_cifar_network_computes_what_the_paper_says(name, convolutions):
    # Its dense blocks are cut to two units; how many they are at full size is counted in test_models_counts.py.
    model = create_model(name, num_classes=10, image_size=16, units=2)
    x = images(model, 4)
    settled(model, x)
    (kernel,) = weights(model, "stem_conv")
    y = np_conv(x / 127.5 - 1, kernel, padding=1)  # neither norm nor ReLU: each unit begins with its own
    expected = np_densenet(model, y, (2, 2, 2), convolutions)
    report(name, logits(model, x), expected, "NumPy", TOLERANCE)


def imagenet(depths, **options):
    """The network for ImageNet with other depths."""
    image = keras.Input((32, 32, 3))
    features = densenet(normalize(image, (0.5,) * 3, (0.5,) * 3), depths=depths, **options)
    return keras.Model(image, linear_head(features, 10))


def np_imagenet(model, x, depths):
    y = np_max_pool(relu(np_conv_norm(model, x / 127.5 - 1, "stem", stride=2)))
    return np_densenet(model, y, depths, 2)


def test_the_imagenet_network_computes_what_the_paper_says():
    model = imagenet((1, 3, 2, 2), growth_rate=6)
    x = images(model, 8)
    settled(model, x)
    expected = np_imagenet(model, x, (1, 3, 2, 2))
    assert np.abs(logits(model, x) - expected).max() < TOLERANCE * expected.std()


@pytest.mark.heavy
def test_densenet264_computes_what_the_paper_says():
    model = create_model("densenet264", num_classes=10, image_size=32, growth_rate=2)
    x = images(model, 8)
    settled(model, x)
    report("densenet264", logits(model, x), np_imagenet(model, x, (6, 12, 64, 48)), "NumPy", TOLERANCE)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: build("densenet_cifar_drop"), id="plain"),
        pytest.param(lambda: build("densenet_cifar_bc", block_drop_rate=0.2), id="bottleneck"),
        pytest.param(lambda: imagenet((1, 1, 2, 1), growth_rate=2, block_drop_rate=0.2), id="imagenet"),
    ],
)
def test_dropout_follows_every_convolution_but_the_first(model):
    model = model()
    drops = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert convolutions[0].name == "stem_conv"
    assert {layer.rate for layer in drops} == {0.2}
    assert [layer.input for layer in drops] == [layer.output for layer in convolutions[1:]]


def test_dropout_is_absent_unless_asked_for():
    assert not [layer for layer in shared("densenet_cifar").layers if isinstance(layer, keras.layers.Dropout)]


def test_each_unit_concatenates_two_tensors_only():
    # A list of all outputs before would make as many gradients to add: 41 * 42 / 2 a stage of densenet_bc_250_24.
    joins = [layer for layer in shared("densenet_cifar").layers if isinstance(layer, keras.layers.Concatenate)]
    assert len(joins) == 6
    assert {len(layer.input) for layer in joins} == {2}


@pytest.mark.parametrize("compression", [0.0, -0.5, 1.5])
def test_a_compression_that_is_no_fraction_is_refused(compression):
    with pytest.raises(RecipeError, match=f"compression is a fraction above 0, up to 1, not {compression}"):
        build("densenet_cifar", compression=compression)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_block_drop_rate_outside_its_range_is_refused(rate):
    with pytest.raises(RecipeError, match=f"a dropout rate is a fraction from 0 to below 1, not {rate}"):
        build("densenet_cifar", block_drop_rate=rate)


@pytest.mark.parametrize("units", [0, -1])
def test_a_stage_without_units_is_refused(units):
    with pytest.raises(RecipeError, match=f"1 or more, not {units}$"):
        build("densenet_cifar", units=units)
