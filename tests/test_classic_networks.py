"""AlexNet, VGG, GoogLeNet and the PReLU-nets: the same logits as NumPy written from the papers."""

import math

import keras
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy_reference import np_conv, np_dense, np_norm, relu, weights
from parity import report
from tiny import build, images, jitter, logits, shared

from kcls.errors import RecipeError
from kcls.models.alexnet import alexnet
from kcls.models.blocks import covering_pool, local_response_norm
from kcls.models.prelunet import bin_pool

# Up to 22 layers, each a sum of up to a few thousand products that are rounded at 6e-8 each.
TOLERANCE = 1e-5


def np_biased_conv(model, x, name, size, stride=1, padding=None, groups=1):
    """size x size convolution with a layer's weights; each group of outputs sees its own group of channels."""
    kernel, bias = weights(model, name)
    assert kernel.shape[:2] == (size, size)
    padding = size // 2 if padding is None else padding
    parts = zip(np.split(x, groups, axis=3), np.split(kernel, groups, axis=3), strict=True)
    return np.concatenate([np_conv(part, k, stride, padding) for part, k in parts], axis=3) + bias


def np_pool(x, size, stride, reduce=np.max):
    """Windows that fit into the map."""
    return reduce(sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride], axis=(4, 5))


def np_local_response_norm(x, bias, alpha):
    """Section 3.3 of the AlexNet paper, n = 5 and beta = 0.75."""
    y = np.zeros_like(x)
    for i in range(x.shape[3]):
        near = x[..., max(0, i - 2) : min(x.shape[3] - 1, i + 2) + 1]
        y[..., i] = x[..., i] / (bias + alpha * (near**2).sum(axis=3)) ** 0.75
    return y


def flat(x):
    return x.reshape(len(x), -1)


# The local response norm


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("bias, alpha", [(2.0, 1e-4), (1.0, 2e-5)])
def test_the_local_response_norm_is_the_formula_of_the_paper(bias, alpha, channels):
    x = np.random.default_rng(0).normal(0, 200, (2, 3, 4, channels))  # so that the squares count as much as the bias
    ours = keras.ops.convert_to_numpy(local_response_norm(x.astype("float32"), bias=bias, alpha=alpha))
    expected = np_local_response_norm(x, bias, alpha)
    assert np.abs(ours - expected).max() < 1e-6 * np.abs(expected).max()  # a power and six sums in float32


def test_the_local_response_norm_survives_large_values_in_half_precision():
    x = keras.ops.full((1, 1, 1, 5), 1000.0, dtype="float16")
    y = local_response_norm(x, bias=2.0, alpha=1e-4)
    assert y.dtype == "float16"
    expected = np_local_response_norm(np.full((1, 1, 1, 5), 1000.0), 2.0, 1e-4)
    assert np.allclose(keras.ops.convert_to_numpy(y), expected, rtol=2e-3)  # float16 has 11 bits


def bytes_less_mean(x):
    """Pixels of 0..255 less the mean of ImageNet's, as AlexNet and GoogLeNet see them."""
    return x - 255 * np.array((0.485, 0.456, 0.406))


# AlexNet


def np_alexnet(model, x):
    """Section 3.5: conv, ReLU, norm, pool twice; three convolutions, pool; two hidden layers."""
    y = relu(np_biased_conv(model, bytes_less_mean(x), "conv1_conv", 11, stride=4, padding=0))
    y = np_pool(np_local_response_norm(y, 2, 1e-4), 3, 2)
    y = relu(np_biased_conv(model, y, "conv2_conv", 5, groups=2))
    y = np_pool(np_local_response_norm(y, 2, 1e-4), 3, 2)
    y = relu(np_biased_conv(model, y, "conv3_conv", 3))
    y = relu(np_biased_conv(model, y, "conv4_conv", 3, groups=2))
    y = relu(np_biased_conv(model, y, "conv5_conv", 3, groups=2))
    y = flat(np_pool(y, 3, 2))
    return np_dense(model, relu(np_dense(model, relu(np_dense(model, y, "fc6")), "fc7")), "head")


def test_alexnet_computes_what_the_paper_says():
    model = jitter(build("alexnet"))
    x = images(model)
    report("alexnet", logits(model, x), np_alexnet(model, x), "NumPy", TOLERANCE)


def test_the_first_map_of_alexnet_is_that_of_the_paper():
    image = keras.Input((227, 227, 3))
    model = keras.Model(image, alexnet(image, fc_width=4))
    shapes = [model.get_layer(f"conv{i}_conv").output.shape[1:] for i in range(1, 6)]
    assert shapes == [(55, 55, 96), (27, 27, 256), (13, 13, 384), (13, 13, 384), (13, 13, 256)]


def test_alexnet_starts_as_in_the_paper():
    model = build("alexnet", width=24, fc_width=64)
    kernels = {w.path: w.numpy() for w in model.weights if w.path.endswith("kernel")}
    assert len(kernels) == 8
    for kernel in kernels.values():
        # At least 320 values, whose deviation is known to 1 / sqrt(2 * 320) = 4 %: three times that, and a little.
        assert kernel.std() == pytest.approx(0.01, rel=0.15)
    biases = {w.path: set(w.numpy()) for w in model.weights if w.path.endswith("bias")}
    ones = {"conv2_conv/bias", "conv4_conv/bias", "conv5_conv/bias", "fc6/bias", "fc7/bias"}
    assert biases == {path: {1.0} if path in ones else {0.0} for path in biases}


# VGG


def np_vgg(model, x, depths):
    """Table 1: stages of 3x3 convolutions and ReLU with a 2x2 pool after each; two hidden layers."""
    y = x / 127.5 - 1
    for stage, depth in enumerate(depths, 1):
        for i in range(1, depth + 1):
            y = np_biased_conv(model, y, f"stage{stage}_{i}_conv", 3)
            if model.name.endswith("_bn"):
                y = np_norm(y, *weights(model, f"stage{stage}_{i}_norm"))
            y = relu(y)
        y = np_pool(y, 2, 2)
    y = flat(y)
    return np_dense(model, relu(np_dense(model, relu(np_dense(model, y, "fc6")), "fc7")), "head")


@pytest.mark.parametrize("label, depths", [("vgg", (1, 1, 2, 2, 2)), ("vgg_bn", (2, 2, 3, 3, 3))])
def test_a_vgg_network_computes_what_the_paper_says(label, depths):
    model = shared(label)
    x = images(model)
    expected = np_vgg(model, x, depths)
    assert np.abs(logits(model, x) - expected).max() < TOLERANCE * expected.std()


# GoogLeNet


def np_covering_pool(x):
    """3x3/2 windows that cover the whole map, the last ones cut off at its end."""
    size = math.ceil((x.shape[1] - 3) / 2) + 1
    rows = [x[:, 2 * i : 2 * i + 3].max(axis=1) for i in range(size)]
    return np.stack([np.stack(rows, 1)[:, :, 2 * i : 2 * i + 3].max(axis=2) for i in range(size)], 2)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 14])
def test_the_pools_of_googlenet_cover_the_whole_map(size):
    x = np.random.default_rng(0).uniform(size=(2, size, size, 3)).astype("float32")
    ours = keras.ops.convert_to_numpy(covering_pool(keras.ops.convert_to_tensor(x), name="pool"))
    assert np.array_equal(ours, np_covering_pool(x))


def np_inception(model, x, name):
    """Figure 2b: 1x1; 1x1 and 3x3; 1x1 and 5x5; pool and 1x1; joined in this order."""

    def conv(y, part, size=1):
        return relu(np_biased_conv(model, y, f"{name}_{part}_conv", size))

    around = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    branches = (
        conv(x, "1x1"),
        conv(conv(x, "3x3_reduce"), "3x3", 3),
        conv(conv(x, "5x5_reduce"), "5x5", 5),
        conv(np_pool(around, 3, 1), "pool_project"),
    )
    return np.concatenate(branches, axis=3)


def np_googlenet(model, x):
    """Logits of the network and of its two auxiliary heads."""

    def auxiliary(y, number):
        y = relu(np_biased_conv(model, np_pool(y, 5, 3, np.mean), f"auxiliary{number}_1x1_conv", 1))
        y = relu(np_dense(model, flat(y), f"auxiliary{number}_fc"))
        return np_dense(model, y, f"head_auxiliary{number}")

    y = relu(np_biased_conv(model, bytes_less_mean(x), "stem1_conv", 7, stride=2))
    y = np_local_response_norm(np_covering_pool(y), 1, 1e-4 / 5)
    y = relu(np_biased_conv(model, y, "stem2_reduce_conv", 1))
    y = relu(np_biased_conv(model, y, "stem2_conv", 3))
    y = np_covering_pool(np_local_response_norm(y, 1, 1e-4 / 5))
    y = np_inception(model, y, "inception3a")
    y = np_covering_pool(np_inception(model, y, "inception3b"))
    y = np_inception(model, y, "inception4a")
    first = auxiliary(y, 1)
    for module in "bcd":
        y = np_inception(model, y, f"inception4{module}")
    second = auxiliary(y, 2)
    y = np_covering_pool(np_inception(model, y, "inception4e"))
    y = np_inception(model, np_inception(model, y, "inception5a"), "inception5b")
    return np_dense(model, y.mean(axis=(1, 2)), "head"), first, second


def test_googlenet_computes_what_the_paper_says_in_all_three_heads():
    model = jitter(build("googlenet"))
    x = images(model)
    expected, *auxiliary = np_googlenet(model, x)
    for i, theirs in enumerate(auxiliary, 1):
        head = keras.Model(model.input, model.get_layer(f"head_auxiliary{i}").output)
        assert np.abs(logits(head, x) - theirs).max() < TOLERANCE * theirs.std()
    report("googlenet", logits(model, x), expected, "NumPy", TOLERANCE)


def test_the_features_of_googlenet_have_no_auxiliary_heads():
    assert not [layer.name for layer in build("googlenet", num_classes=0).layers if "auxiliary" in layer.name]


def test_googlenet_drops_as_in_the_paper():
    model = build("googlenet")
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    assert rates == {"auxiliary1_drop": 0.7, "auxiliary2_drop": 0.7, "drop": 0.4}


# PReLU-nets


def np_bins(x, bins):
    """Maxima of bins x bins regions from floor(i n / bins) to ceil((i + 1) n / bins), n the size of the map."""

    def region(i):
        return slice(math.floor(i * x.shape[1] / bins), math.ceil((i + 1) * x.shape[1] / bins))

    rows = [[x[:, region(i), region(j)].max(axis=(1, 2)) for j in range(bins)] for i in range(bins)]
    return np.stack([np.stack(row, 1) for row in rows], 1)


@pytest.mark.parametrize("size", [1, 2, 5, 7, 10, 14])
@pytest.mark.parametrize("bins", [7, 3, 2, 1])
def test_bins_cover_a_map_of_any_size(bins, size):
    x = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("float32")
    ours = keras.ops.convert_to_numpy(bin_pool(keras.ops.convert_to_tensor(x), bins, "pool"))
    assert np.array_equal(ours, np_bins(x, bins))


@pytest.mark.parity
@pytest.mark.parametrize("size", [5, 10, 14])
@pytest.mark.parametrize("bins", [7, 3, 2, 1])
def test_bins_are_those_of_pytorch(bins, size):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("float32")
    ours = keras.ops.convert_to_numpy(bin_pool(keras.ops.convert_to_tensor(x), bins, "pool"))
    theirs = torch.nn.functional.adaptive_max_pool2d(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), bins)
    assert np.array_equal(ours, theirs.numpy().transpose(0, 2, 3, 1))


def np_prelu(model, x, name):
    """Equation 1, with one slope a channel."""
    (slope,) = weights(model, name)
    assert slope.size == x.shape[-1]
    return np.where(x > 0, x, slope.reshape(-1) * x)


def np_prelunet(model, x, depth):
    """Table 3: 7x7/2; three times a 2x2 pool and ``depth`` 3x3 convolutions; pyramid; two hidden layers."""
    y = np_prelu(model, np_biased_conv(model, x / 127.5 - 1, "stem_conv", 7, stride=2), "stem_prelu")
    for stage in (1, 2, 3):
        y = np_pool(y, 2, 2)
        for i in range(1, depth + 1):
            y = np_prelu(model, np_biased_conv(model, y, f"stage{stage}_{i}_conv", 3), f"stage{stage}_{i}_prelu")
    y = np.concatenate([flat(np_bins(y, bins)) for bins in (7, 3, 2, 1)], axis=1)
    for name in ("fc1", "fc2"):
        y = np_prelu(model, np_dense(model, y, name), f"{name}_prelu")
    return np_dense(model, y, "head")


@pytest.mark.parametrize("name, depth", [("prelunet_a", 5), ("prelunet_b", 6), ("prelunet_c", 6)])
def test_a_prelunet_computes_what_the_paper_says(name, depth):
    model = jitter(build("prelunet", name=name))
    x = images(model)
    report(name, logits(model, x), np_prelunet(model, x, depth), "NumPy", TOLERANCE)


def test_a_prelunet_starts_as_in_the_paper():
    model = build("prelunet", width_multiplier=1 / 8, fc_width=64)
    slopes = [w.numpy() for w in model.weights if w.path.endswith("alpha")]
    assert len(slopes) == 18
    assert {value for slope in slopes for value in slope.ravel()} == {0.25}
    drawn = []
    for layer in model.layers:
        if layer.name != "head" and hasattr(layer, "kernel"):
            kernel = layer.kernel.numpy()
            fan_out = np.prod(kernel.shape) / kernel.shape[-2]
            drawn.append(kernel.ravel() / np.sqrt(2 / (1 + 0.25**2) / fan_out))
            # At least 1,700 values, whose deviation is known to 1 / sqrt(2 * 1700) = 2 %: five times that.
            assert drawn[-1].std() == pytest.approx(1, rel=0.1)
    # All 600,000 together are known to 0.1 %; the factor 1 + 0.25^2 of PReLU makes 3 %.
    assert np.concatenate(drawn).std() == pytest.approx(1, rel=0.01)


# Dropout


@pytest.mark.parametrize(
    "label, first, last", [("alexnet", "fc6", "fc7"), ("vgg", "fc6", "fc7"), ("prelunet", "fc1", "fc2")]
)
def test_both_hidden_layers_are_dropped_by_half(label, first, last):
    layers = shared(label).layers
    drops = {layer.name: layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)}
    assert drops == {f"{first}_drop": 0.5, "drop": 0.5}
    names = [layer.name for layer in layers]
    assert names.index(f"{first}_drop") == names.index(last) - 1
    assert names.index("drop") == names.index("head") - 1


def test_a_hidden_layer_without_dropout_has_no_layer_for_it():
    assert "fc6_drop" not in [layer.name for layer in build("alexnet", fc_drop_rate=0.0).layers]


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_dropout_rate_of_a_hidden_layer_outside_its_range_is_refused(rate):
    with pytest.raises(RecipeError, match="dropout rate is a fraction from 0 to below 1"):
        build("vgg", fc_drop_rate=rate)


@pytest.mark.parametrize("label, size", [("alexnet", 66), ("vgg", 31), ("googlenet", 64)])
def test_an_image_too_small_for_the_pools_is_refused(label, size):
    with pytest.raises(RecipeError, match=f"cannot be built for {size} px images"):
        build(label, image_size=size)
