"""CoAtNet: its two blocks, its relative attention, the whole network, and how timm orders queries, keys and values."""

from functools import partial

import keras
import numpy as np
import pytest
from numpy_reference import (
    assert_close,
    gelu,
    np_attention,
    np_conv,
    np_conv_norm,
    np_dense,
    np_layer_norm,
    np_norm,
    weights,
)
from parity import report
from tiny import build, images, jitter, logits, shared

from kcls.errors import RecipeError
from kcls.models.coatnet import mbconv, transformer
from kcls.models.layers import DropPath
from kcls.models.registry import get_variant
from kcls.weights.timm.coatnet import heads_last

np_layer_norm = partial(np_layer_norm, epsilon=1e-6)

TOLERANCE = 1e-4  # float32 rounds to some 1e-6 of the logits' deviation along these few blocks


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def np_pointwise(model, x, name):
    """A 1x1 convolution, its bias if it has one."""
    kernel, *bias = weights(model, name)
    return x @ kernel[0, 0] + (bias[0] if bias else 0)


def np_pool(x, stride):
    """The mean of 2 x 2 pixels for a stride of 2."""
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4 if stride == 2 else x


def np_shortcut(model, x, width, stride, name, project_pooled):
    """Section A.1: pooled, and projected where the width changes, or (equation 4) wherever it is pooled."""
    projects = width != x.shape[-1] or (project_pooled and stride == 2)
    return np_pointwise(model, np_pool(x, stride), f"{name}_shortcut") if projects else np_pool(x, stride)


def np_mbconv(model, x, width, stride, name, project_pooled=False):
    """Equation 5, but strided in the depthwise convolution (Table 9): norm, 1x1, 3x3 of each channel, SE, 1x1."""
    y = np_norm(x, *weights(model, f"{name}_pre_norm"))
    y = gelu(np_conv_norm(model, y, f"{name}_expand"))
    (kernel,) = weights(model, f"{name}_depthwise_conv")
    y = np.concatenate([np_conv(y[..., [c]], kernel[:, :, [c]], stride, 1) for c in range(y.shape[-1])], -1)
    y = gelu(np_norm(y, *weights(model, f"{name}_depthwise_norm")))
    s = np_pointwise(model, y.mean((1, 2), keepdims=True), f"{name}_se_reduce")
    y = y * sigmoid(np_pointwise(model, s * sigmoid(s), f"{name}_se_expand"))
    return np_shortcut(model, x, width, stride, name, project_pooled) + np_pointwise(model, y, f"{name}_project")


def np_biases(model, side, name):
    """Section A.1: P of a head at the row and column distance of the query from the key, both shifted to 0."""
    (table,) = weights(model, name)
    table = table.reshape(2 * side - 1, 2 * side - 1, -1)
    biases = np.zeros((table.shape[-1], side**2, side**2))
    for i in range(side**2):
        for j in range(side**2):
            biases[:, i, j] = table[i // side - j // side + side - 1, i % side - j % side + side - 1]
    return biases


def np_transformer(model, x, width, stride, head_channels, name, project_pooled=False):
    """Equation 4, then two layers for each pixel with GELU between."""
    y = np_pool(np_layer_norm(model, x, f"{name}_1_norm"), stride)
    batch, side = y.shape[:2]
    biases = np_biases(model, side, f"{name}_attention_bias")
    y = np_attention(model, y.reshape(batch, side**2, -1), width // head_channels, f"{name}_attention", biases)
    x = np_shortcut(model, x, width, stride, name, project_pooled) + y.reshape(batch, side, side, width)
    y = gelu(np_dense(model, np_layer_norm(model, x, f"{name}_2_norm"), f"{name}_mlp_expand"))
    return x + np_dense(model, y, f"{name}_mlp_reduce")


SHAPES = [(8, 8, 1), (8, 8, 2), (8, 16, 2), (8, 16, 1)]  # the last begins the transformers of coatnet_6 and coatnet_7


@pytest.mark.parametrize("channels, width, stride", SHAPES)
def test_a_convolutional_block_computes_what_the_paper_says(channels, width, stride):
    image = keras.Input((6, 6, channels))
    model = jitter(keras.Model(image, mbconv(image, width, stride, 0.0, "b")))
    x = np.random.default_rng(1).normal(size=(2, 6, 6, channels))
    assert_close(logits(model, x.astype("float32")), np_mbconv(model, x, width, stride, "b"))


@pytest.mark.parametrize("channels, width, stride", SHAPES)
def test_a_transformer_block_computes_what_the_paper_says(channels, width, stride):
    image = keras.Input((6, 6, channels))
    model = jitter(keras.Model(image, transformer(image, width, stride, 0.0, "b", head_channels=4)))
    x = np.random.default_rng(1).normal(size=(2, 6, 6, channels))
    assert_close(logits(model, x.astype("float32")), np_transformer(model, x, width, stride, 4, "b"))


def np_network(model, x, depths, strides, head_channels, project_pooled=False):
    """Figure 4 and Tables 3 and 12; the widths are those of the model."""
    y = gelu(np_conv_norm(model, x / 127.5 - 1, "stem_1", 2))
    y = np_conv(y, *weights(model, "stem_2_conv"), 1, 1)
    for s, (depth, stride) in enumerate(zip(depths, strides, strict=True), 1):
        for b in range(1, depth + 1):
            name = f"stage{s}_block{b}"
            if s > len(depths) - 2:
                width = model.get_layer(f"{name}_mlp_reduce").units
                y = np_transformer(model, y, width, stride if b == 1 else 1, head_channels, name, project_pooled)
            else:
                width = model.get_layer(f"{name}_project").filters
                y = np_mbconv(model, y, width, stride if b == 1 else 1, name, project_pooled)
    y = np_layer_norm(model, y.mean((1, 2)), "last_norm")
    return np_dense(model, np.tanh(np_dense(model, y, "pre_logits")), "head")


def test_the_whole_network_computes_what_the_paper_says():
    model = shared("coatnet")  # compared with timm at full size, too
    x = images(model)
    assert_close(logits(model, x), np_network(model, x, (1, 2, 2, 1), (2, 2, 2, 2), 8))


@pytest.mark.parametrize("name", ["coatnet_6", "coatnet_7"])
def test_a_network_whose_third_stage_is_mixed_computes_what_the_paper_says(name):
    # With a twentieth of the blocks: how many there are, and how wide, is proven by the counts.
    model = jitter(build("coatnet_mixed", name=name))
    x = images(model)
    theirs = np_network(model, x, (1, 1, 1, 3, 1), (2, 2, 2, 1, 2), 8, project_pooled=True)
    report(name, logits(model, x), theirs, "NumPy", TOLERANCE)


def test_only_the_transformers_behind_convolutions_of_the_same_stage_keep_their_map():
    model = shared("coatnet_mixed")
    adds = ["1_block1_add", "2_block1_add", "3_block1_add", "4_block1_1_add", "5_block1_1_add"]
    sides = [model.get_layer(f"stage{add}").output.shape[1] for add in adds]
    assert sides == [16, 8, 4, 4, 2]


def test_timms_heads_with_query_key_and_value_each_become_all_queries_all_keys_all_values():
    h, kind, d = np.indices((4, 3, 32))
    theirs = (1000 * kind + 100 * h + d).reshape(-1)
    q, k, v = np.split(heads_last(np.stack([theirs, -theirs])), 3, axis=-1)
    expected = (100 * np.arange(4)[:, None] + np.arange(32)).reshape(-1)
    assert (q == [expected, -expected]).all()
    assert (k == [expected + 1000, -expected - 1000]).all()
    assert (v == [expected + 2000, -expected - 2000]).all()


def test_the_features_lie_between_minus_one_and_one():
    features = jitter(build("coatnet", num_classes=0))
    answer = logits(features, images(features))
    assert answer.shape == (2, 64)
    assert np.abs(answer).max() <= 1


def test_drop_path_grows_linearly_from_0_to_its_rate():
    model = build("coatnet", drop_path_rate=0.5)
    rates = [layer.rate for layer in model.layers if isinstance(layer, DropPath)]
    # Six blocks: the first drops nothing, and a transformer drops either of its branches.
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5])


def test_the_drop_path_rates_are_those_of_table_10():
    rates = [get_variant(f"coatnet_{i}").option("drop_path_rate") for i in range(8)]
    assert rates == [0.2, 0.3, 0.5, 0.7, 0.7, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("size, near", [(48, "32 or 64"), (100, "96 or 128"), (16, "32")])
def test_an_image_that_cannot_be_halved_five_times_is_refused(size, near):
    with pytest.raises(RecipeError, match=f"the five halvings need a multiple of 32 px, such as {near}$"):
        build("coatnet", image_size=size)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(head_channels=5), "heads of 5 channels do not divide 32 channels$"),
        (dict(head_channels=0), "heads of 0 channels do not divide 32 channels$"),
        (dict(width_multiplier=0.0), "multipliers are above 0, not 0.0 and 0.4$"),
        (dict(depth_multiplier=-1.0), "multipliers are above 0, not .* and -1.0$"),
        (dict(drop_path_rate=1.0), "drop path rate is a probability from 0 to below 1, not 1.0$"),
    ],
)
def test_options_without_sense_are_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        build("coatnet", **options)
