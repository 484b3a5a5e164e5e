"""What a network is before it has learnt: its units do not drown the image, and its answer depends on it."""

import math

import keras
import numpy as np
import pytest
from tiny import TINY, build, images, logits

import kcls
from kcls.errors import RecipeError
from kcls.models.initializers import small_normal
from kcls.models.layers import ClassTokens, MaskTokens
from kcls.models.positions import PositionEmbedding, RelativePositionBias
from kcls.models.registry import get_variant
from kcls.training.network import build_network

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, BYTE = (0.485, 0.456, 0.406), (1 / 255, 1 / 255, 1 / 255)

# Labels of the networks of residual units that end in a norm -> how many norms a residual has.
BASIC = dict.fromkeys(("basic_a", "basic_b", "basic_c", "cifar", "cifar_zero_init"), 2)
BOTTLENECKS = ("bottleneck", "bottleneck_v1", "seresnet", "seresnet_v1", "seresnext", "senet154")
RESIDUAL = {**BASIC, **dict.fromkeys((*BOTTLENECKS, "wide_resnet", "spinal", "regnety"), 3)}
residual = pytest.mark.parametrize(
    "label",
    [
        pytest.param(label, marks=() if label in ("cifar", "bottleneck", "regnety") else pytest.mark.heavy)
        for label in RESIDUAL
    ],
)


def additions(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]


def gammas(model, number):
    """First values of the gammas of the last norms, how many there are, and first values of those of all others."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    last = [n for n in norms if n.name.startswith("stage") and n.name.endswith(f"_{number}_norm")]
    others = [n for n in norms if n not in last]
    return {g for n in last for g in n.gamma.numpy()}, len(last), {g for n in others for g in n.gamma.numpy()}


@residual
def test_with_zero_init_the_last_gammas_start_at_0_and_every_unit_as_its_shortcut(label):
    model = build(label, zero_init=True)
    sums = additions(model)
    assert gammas(model, RESIDUAL[label]) == ({0}, len(sums), {1})
    residuals = keras.Model(model.input, [layer.input[1] for layer in sums])
    for training in (False, True):
        assert not any(np.any(residual) for residual in residuals(images(model), training=training))


@residual
def test_zero_init_can_be_turned_off(label):
    model = build(label, zero_init=False)
    assert gammas(model, RESIDUAL[label]) == ({1}, len(additions(model)), {1})


def test_a_unit_that_keeps_the_shape_starts_as_the_identity():
    model = build("cifar_zero_init", units=2)
    x = images(model)
    first, second = (keras.Model(model.input, model.get_layer(f"stage2_unit{u}_relu").output) for u in (1, 2))
    assert np.any(logits(first, x))
    assert np.array_equal(logits(first, x), logits(second, x))


def test_zero_init_is_the_default_of_imagenets_residual_networks_and_of_the_deepest_for_cifar():
    published = {label: get_variant(TINY[label]["name"]).option("zero_init") for label in (*RESIDUAL, "plain")}
    assert published == {**dict.fromkeys(RESIDUAL, True), "cifar": False, "regnety": False, "plain": False}
    deep = {units: get_variant(f"resnet{6 * units + 2}").option("zero_init") for units in (3, 5, 7, 9, 18, 200)}
    assert deep == {3: False, 5: False, 7: False, 9: True, 18: True, 200: True}


def test_a_plain_network_refuses_zero_init():
    with pytest.raises(RecipeError, match="no shortcut, so with zero_init nothing would reach its end"):
        build("plain", zero_init=True)


@pytest.mark.parametrize("training", [False, True])
def test_a_deep_cifar_network_starts_at_the_loss_of_a_guess(training):
    model = build("cifar_zero_init", units=18, num_classes=10)
    x, labels = images(model, 32), np.arange(32) % 10
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, model(x, training=training))
    assert float(loss) == pytest.approx(math.log(10), rel=0.1)  # the first logits, of 0.1 to 0.3, are a guess


# Pixels


def coloured(model, count=8):
    """Images as smooth as photos: random colours on a grid of 4 x 4, interpolated."""
    colours = np.random.default_rng(0).uniform(0, 255, (count, 4, 4, 3))
    size = model.input.shape[1:3]
    return keras.ops.convert_to_numpy(keras.ops.image.resize(colours, size)).astype("float32")


def movement(label, **changes):
    """Deviation of the first logits across images, against that across classes, which is the biases' work."""
    keras.utils.set_random_seed(0)
    model = build(label, **changes)
    answer = logits(model, coloured(model))
    return answer.std(axis=0).mean() / answer.mean(axis=0).std()


# Pixels grow by 127.5, and so do the logits' movements, but for what the norms take: 84 was measured. In GoogLeNet the
# answer to the mean image grows, too: 6. This AlexNet is wide enough for movements above the rounding of float32.
@pytest.mark.parametrize(
    "label, width, factor", [("alexnet", dict(width=48, fc_width=512), 50), ("googlenet", dict(), 3)]
)
def test_the_first_logits_see_an_image_of_the_published_scale(label, width, factor):
    assert movement(label, **width) > factor * movement(label, **width, mean=HALF, std=HALF)


@pytest.mark.parametrize("label", ["alexnet", "googlenet"])
def test_a_network_made_for_pixels_of_0_to_255_has_them_by_default(label):
    variant = get_variant(label)
    assert (variant.mean, variant.std) == (IMAGENET_MEAN, BYTE)


RECIPE = """\
model:   {{name: {name}, options: {options}}}
data:    {{source: digits, train: "train[:5%]", val: "train[95%:]"}}
image:   {{{image}}}
augment: {{flip: false}}
optimizer: {{name: sgd, lr: 0.001}}
train:   {{epochs: 1, batch_size: 64}}
"""
ALEXNET = dict(name="alexnet", options="{width: 6, fc_width: 16}")
RESNET = dict(name="resnet20", options="{units: 1, width: 4}")


@pytest.fixture
def recipe(tmp_path):
    """Reads a tiny recipe of a network with an image section."""

    def read(network, image):
        (tmp_path / "recipe.yaml").write_text(RECIPE.format(**network, image=image))
        return kcls.load_recipe(tmp_path / "recipe.yaml")

    return read


@pytest.mark.parametrize(
    "network, image, mean, std",
    [
        (ALEXNET, "size: 67", IMAGENET_MEAN, BYTE),
        pytest.param(ALEXNET, "size: 67, mean: [0.5, 0.5, 0.5]", HALF, BYTE, marks=pytest.mark.heavy),
        pytest.param(RESNET, "size: 8, std: null", HALF, HALF, marks=pytest.mark.heavy),
    ],
)
def test_a_run_says_the_normalisation_that_its_recipe_left_to_the_network(network, image, mean, std, recipe, tmp_path):
    run = kcls.train(recipe(network, image), out=tmp_path / "run")
    stated = kcls.load_recipe(run.recipe_file).image
    assert (stated.mean, stated.std) == (mean, std)
    scale = keras.models.load_model(run.model_file).get_layer("normalize").scale
    assert scale == pytest.approx([1 / (255 * s) for s in std])


def test_a_network_of_a_recipe_that_leaves_the_normalisation_out_has_its_own(recipe):
    model = build_network(recipe(ALEXNET, "size: 67"), 10)
    assert model.get_layer("normalize").scale == pytest.approx([1, 1, 1])


# Deviations


def test_the_small_normal_is_not_cut_at_two_deviations():
    values = keras.ops.convert_to_numpy(small_normal()((1000, 100)))
    assert values.std() == pytest.approx(0.02, rel=0.01)  # of 100,000 values it is known to 0.22 %; cut, it is .0176
    assert np.abs(values).max() > 0.06


@pytest.mark.parametrize("label", ["vit", "deit_distilled", "swin", "convnext"])
def test_the_kernels_start_with_the_deviation_of_the_authors_code(label):
    kernels = np.concatenate([w.numpy().ravel() for w in build(label).weights if w.name == "kernel"])
    assert kernels.std() == pytest.approx(0.02, rel=0.04)  # of 7,000 values it is known to 0.85 %


@pytest.mark.parametrize(
    "layer, shape, weight, deviation",
    [
        (ClassTokens(10), (None, 4, 1000), "tokens", 0.02),
        (MaskTokens(), [(None, 4, 10_000), (None, 9)], "token", 0.02),
        (PositionEmbedding(), (None, 100, 100), "positions", 0.02),
        (PositionEmbedding(stddev=0.2), (None, 100, 100), "positions", 0.2),
        (RelativePositionBias(), (None, 20, 144, 144), "table", 0.02),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, keras.layers.Layer) else None,
)
def test_tokens_and_tables_start_with_the_deviation_of_the_authors_code(layer, shape, weight, deviation):
    layer.build(shape)
    values = getattr(layer, weight).numpy()
    assert values.std() == pytest.approx(deviation, rel=0.03)  # of 10,000 values it is known to 0.7 %
