"""The frame around every architecture: RGB 0..255 in, float32 logits out, normalisation inside."""

import keras
import numpy as np
import pytest
from tiny import NUM_CLASSES, TINY, build, every_row, images, jitter, logits, settle, shared

from kcls.errors import RecipeError
from kcls.models import create_model


@pytest.fixture
def policy():
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.fixture
def mixed_bfloat16(policy):
    policy("mixed_bfloat16")


def normalized(model, x):
    """What the first layer makes of the images."""
    first = keras.Model(model.input, model.get_layer("normalize").output)
    return keras.ops.convert_to_numpy(first(x))


@every_row
def test_logits_are_float32_and_one_per_class(label):
    model = shared(label)
    answer = logits(model, images(model, 3))
    assert answer.shape == (3, NUM_CLASSES)
    assert answer.dtype == np.float32
    assert np.isfinite(answer).all()


@every_row
@pytest.mark.parametrize("half", ["bfloat16", pytest.param("float16", marks=pytest.mark.heavy)])
def test_mixed_precision_computes_in_half_precision_and_answers_in_float32(label, half, policy):
    policy(f"mixed_{half}")
    model = build(label)
    answer = logits(settle(model, images(model, 3)), images(model, 3))
    assert {layer.compute_dtype for layer in model.layers if isinstance(layer, keras.layers.Conv2D)} == {half}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert answer.dtype == np.float32
    assert np.isfinite(answer).all()


def test_mixed_precision_logits_are_not_rounded_to_bfloat16(mixed_bfloat16):
    model = jitter(build("cifar"))
    answer = logits(model, images(model, 8))
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.cast(answer, "bfloat16"), "float32"))
    assert (answer != rounded).any()


@every_row
def test_without_classes_the_features_come_out(label):
    features = build(label, num_classes=0)
    heads = [layer for layer in shared(label).layers if layer.name in ("head", "head_distilled")]
    assert features.output.shape == (None, sum(head.input.shape[-1] for head in heads))
    assert not [layer.name for layer in features.layers if layer.name.startswith("head")]


@every_row
def test_the_graph_is_flat(label):
    assert not [layer.name for layer in shared(label).layers if isinstance(layer, keras.Model)]


@every_row
def test_the_model_is_named_after_its_variant(label):
    assert shared(label).name == TINY[label]["name"]


@every_row
def test_bytes_and_floats_give_the_same_logits(label):
    model = shared(label)
    x = images(model).astype("uint8")
    assert np.array_equal(logits(model, x), logits(model, x.astype("float32")))


@every_row
def test_a_sample_does_not_see_the_others_at_inference(label):
    model = shared(label)
    x = images(model, 3)
    # Another batch size may be summed in another order: float32 rounding of sums of some thousand terms.
    assert np.allclose(logits(model, x)[:1], logits(model, x[:1]), rtol=1e-4, atol=1e-4)


def test_normalisation_is_the_documented_formula():
    mean, std = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
    model = build("cifar", mean=mean, std=std)
    x = images(model)
    expected = (x.astype("float64") / 255 - mean) / std
    # Values up to 2.3 from a product and a sum in float32, whose unit is 1.2e-7 there.
    assert np.abs(normalized(model, x) - expected).max() < 1e-6


def test_default_normalisation_is_minus_one_to_one():
    model = build("cifar")
    x = images(model)
    x[0, 0, 0], x[0, 0, 1] = 0, 255
    assert np.abs(normalized(model, x) - (x / 127.5 - 1)).max() < 1e-6  # a product and a sum in float32


def test_normalisation_is_as_exact_in_mixed_precision(mixed_bfloat16):
    model = build("cifar")
    x = images(model)
    # float32 again: a bfloat16 scale and offset would move some pixels by more than one of their 256 values.
    assert np.abs(normalized(model, x) - (x / 127.5 - 1)).max() < 1e-6


@pytest.mark.parametrize(
    "mean, std",
    [((0.5, 0.5), None), (None, (0.5,) * 4), (None, (0.5, 0.0, 0.5)), (None, (0.5, -1.0, 0.5)), ((), None)],
)
def test_a_mean_or_std_that_is_not_three_numbers_is_refused(mean, std):
    with pytest.raises(RecipeError, match="mean and std are three numbers each, std above 0"):
        build("cifar", mean=mean, std=std)


def test_mean_and_std_may_be_arrays():
    model = build("cifar", mean=np.array([0.1, 0.2, 0.3]), std=np.array([0.5, 0.6, 0.7]))
    assert model.output.shape == (None, NUM_CLASSES)


def test_dropout_stands_between_features_and_head():
    model = build("cifar", drop_rate=0.3)
    names = [layer.name for layer in model.layers]
    assert model.get_layer("drop").rate == 0.3
    assert names.index("drop") == names.index("head") - 1 == names.index("to_head") + 1


def test_dropout_acts_in_training_only():
    model = build("cifar", drop_rate=0.5)
    drop = keras.Model(model.input, model.get_layer("drop").output)
    pool = keras.Model(model.input, model.get_layer("pool").output)
    x = images(model, 8)
    assert np.array_equal(logits(drop, x), logits(pool, x))
    in_training = keras.ops.convert_to_numpy(drop(x, training=True))
    assert (in_training == 0).sum() > (logits(pool, x) == 0).sum()


def test_without_drop_rate_there_is_no_dropout():
    assert not [layer for layer in build("cifar").layers if isinstance(layer, keras.layers.Dropout)]


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan")])
def test_a_drop_rate_outside_its_range_is_refused(rate):
    with pytest.raises(RecipeError, match="drop_rate is a fraction from 0 to below 1"):
        build("cifar", drop_rate=rate)


def test_a_negative_class_count_is_refused():
    with pytest.raises(RecipeError, match=r"num_classes must be 0 \(features\) or more, not -1"):
        build("cifar", num_classes=-1)


@pytest.mark.parametrize("label", ["simple_cnn_m3", "simple_cnn_m5", "simple_cnn_m7"])
def test_an_image_too_small_for_unpadded_convolutions_is_refused(label):
    with pytest.raises(RecipeError, match=f"model '{label}' cannot be built for 16 px images: .*zero or negative"):
        build(label, image_size=16)


@pytest.mark.parametrize("label", ["basic_b", "bottleneck", "cifar"])
@pytest.mark.parametrize("size", [8, 33])
def test_a_residual_network_takes_the_smallest_and_odd_images(label, size):
    model = build(label, image_size=size)  # 8 px is the smallest that a recipe allows
    assert np.isfinite(logits(model, images(model))).all()


@pytest.mark.parametrize("size", [0, -4])
def test_an_image_size_below_one_pixel_is_refused(size):
    with pytest.raises(RecipeError, match=f"image_size .* not {size}$"):
        build("cifar", image_size=size)


def test_the_published_image_size_is_the_default():
    assert create_model("resnet20", num_classes=0, units=1).input.shape == (None, 32, 32, 3)


@pytest.mark.parametrize("units", [0, -1])
def test_a_network_without_units_is_refused(units):
    with pytest.raises(RecipeError, match=f"1 or more, not {units}$"):
        build("cifar", units=units)


@pytest.mark.parametrize("option, value", [("units", 1.5), ("width", 2.5), ("units", True), ("width", "4")])
def test_an_option_of_another_type_is_refused(option, value):
    with pytest.raises(RecipeError, match=f"option '{option}' takes int, not {value!r}$"):
        build("cifar", **{option: value})


def test_a_plain_network_refuses_drop_path():
    with pytest.raises(RecipeError, match="no shortcut, so drop_path_rate would have no effect"):
        build("plain", drop_path_rate=0.1)


@pytest.mark.parametrize("rate", [-0.1, 1])
def test_a_drop_path_rate_outside_its_range_is_refused(rate):
    with pytest.raises(RecipeError, match="drop path rate is a probability from 0 to below 1"):
        build("cifar", drop_path_rate=rate)


def test_the_seed_decides_the_first_weights():
    def first(seed):
        keras.utils.set_random_seed(seed)
        return build("cifar").get_weights()[0]

    assert np.array_equal(first(1), first(1))
    assert not np.array_equal(first(1), first(2))
