"""DropPath: a sample keeps its residual branch or loses it whole."""

import keras
import numpy as np
import pytest
from tiny import build

from kcls.models.layers import DropPath


def call(rate, x, training, **options):
    keras.utils.set_random_seed(0)
    return keras.ops.convert_to_numpy(DropPath(rate, **options)(x, training=training))


def ones(*shape):
    return np.ones(shape, "float32")


def test_inference_changes_nothing():
    x = np.random.default_rng(0).normal(size=(4, 3, 3, 2)).astype("float32")
    assert np.array_equal(call(0.5, x, training=False), x)


def test_rate_0_changes_nothing_in_training():
    x = np.random.default_rng(0).normal(size=(4, 3, 3, 2)).astype("float32")
    assert np.array_equal(call(0.0, x, training=True), x)


@pytest.mark.parametrize("shape", [(64, 5), (64, 7, 5), (64, 3, 3, 2)])
def test_a_sample_is_dropped_whole_or_scaled_whole(shape):
    y = call(0.5, ones(*shape), training=True).reshape(64, -1)
    assert set(np.unique(y)) == {0, 2}
    assert (y == y[:, :1]).all()


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.8])
def test_the_mean_is_preserved(rate):
    y = call(rate, ones(20_000, 1), training=True)
    # 4 standard errors of the mean of values 0 and 1 / (1 - rate), whose variance is rate / (1 - rate).
    assert abs(y.mean() - 1) < 4 * np.sqrt(rate / (1 - rate) / 20_000)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.8])
def test_the_rate_is_the_fraction_dropped(rate):
    y = call(rate, ones(20_000, 1), training=True)
    assert abs((y == 0).mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / 20_000)  # 4 standard errors


def test_each_call_drops_other_samples():
    layer = DropPath(0.5)
    first, second = (keras.ops.convert_to_numpy(layer(ones(64, 1), training=True)) for _ in range(2))
    assert (first != second).any()


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan")])
def test_a_rate_outside_its_range_is_refused(rate):
    with pytest.raises(ValueError, match=f"^drop path rate is a probability from 0 to below 1, not {rate}$"):
        DropPath(rate)


def test_configuration_makes_the_layer_again():
    layer = DropPath(0.3, name="branch")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is DropPath
    assert again.get_config() == layer.get_config()
    assert (again.rate, again.name) == (0.3, "branch")


def test_the_type_of_the_branch_is_kept():
    assert call(0.5, ones(8, 2), training=True, dtype="bfloat16").dtype == "bfloat16"


def test_the_symbolic_shape_is_that_of_the_branch():
    assert DropPath(0.5)(keras.Input((7, 5))).shape == (None, 7, 5)


def test_rates_rise_linearly_over_the_units():
    model = build("cifar", units=2, drop_path_rate=0.3)
    rates = [layer.rate for layer in model.layers if isinstance(layer, DropPath)]
    assert rates == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.25, 0.3])  # the last has the full rate


def test_without_rate_there_is_no_layer():
    assert not [layer for layer in build("cifar").layers if isinstance(layer, DropPath)]


def test_the_shortcut_is_never_dropped():
    # Whatever the branches lose, an option A shortcut carries the stem on: all samples keep a signal.
    model = build("cifar", num_classes=0, units=2, drop_path_rate=0.9)
    x = np.random.default_rng(0).uniform(0, 255, (16, 16, 16, 3)).astype("float32")
    assert (np.abs(keras.ops.convert_to_numpy(model(x, training=True))).max(axis=1) > 0).all()
