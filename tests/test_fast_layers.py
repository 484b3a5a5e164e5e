"""The faster layers of a training compute what Keras's compute: logits, gradients and moving statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import build, images, jitter

from kcls.training.fast_layers import FusedBatchNormalization, SplitConv2D, speed_up


def trained_step(model: keras.Model, x: np.ndarray) -> list[np.ndarray]:
    """The logits in training, the gradients of a loss, and the weights after it, the moving statistics among them."""
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        loss = tf.reduce_mean(tf.square(logits - 1))
    gradients = tape.gradient(loss, model.trainable_variables)
    return [np.asarray(a, "float32") for a in (logits, *gradients, *model.non_trainable_weights)]


def kinds(model: keras.Model) -> set[type]:
    return {type(layer) for layer in model.layers}


@pytest.mark.parametrize("label", ["bottleneck", "regnety", "seresnext", "densenet_cifar_bc"])
def test_a_step_is_that_of_keras(label):
    plain, fast = jitter(build(label)), jitter(build(label))
    speed_up(fast)
    assert kinds(fast) & {FusedBatchNormalization, SplitConv2D}
    x = images(plain, count=6)
    for expected, got in zip(trained_step(plain, x), trained_step(fast, x), strict=True):
        scale = np.abs(expected).max() + 1e-3  # a bias before a norm has a gradient of rounding only
        assert np.abs(expected - got).max() < 2e-3 * scale  # on maps of 1x1, norms over six images amplify rounding


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (2, 1, 1, 4)])  # and of two elements a channel
def test_one_norm_is_that_of_keras(policy, shape):
    x = np.random.default_rng(0).normal(2, 3, shape).astype("float32")
    steps = []
    for make_fast in (False, True):
        inputs = keras.Input(shape[1:])
        norm = keras.layers.BatchNormalization(momentum=0.8, epsilon=1e-5, dtype=policy)
        model = jitter(keras.Model(inputs, norm(inputs)))
        if make_fast:
            speed_up(model)
            assert kinds(model) == {keras.layers.InputLayer, FusedBatchNormalization}
        steps.append(trained_step(model, x))
    tolerance = {"float32": 5e-6, "mixed_bfloat16": 2e-2, "mixed_float16": 3e-3}[policy]  # of the rounding of outputs
    for expected, got in zip(*steps, strict=True):
        np.testing.assert_allclose(got, expected, atol=tolerance * (np.abs(expected).max() + 1))
    np.testing.assert_allclose(steps[1][-1], steps[0][-1], rtol=1e-5)  # the moving variance is float32 in all


def test_weights_paths_and_inference_do_not_change():
    plain, fast = jitter(build("regnety")), jitter(build("regnety"))
    speed_up(fast)
    assert [w.path for w in fast.weights] == [w.path for w in plain.weights]
    x = images(plain)
    np.testing.assert_allclose(fast(x, training=False), plain(x, training=False), rtol=1e-4, atol=1e-5)


def test_a_frozen_norm_keeps_its_statistics():
    model = jitter(build("bottleneck"))
    speed_up(model)
    model.trainable = False
    before = model.get_weights()
    model(images(model), training=True)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_what_computes_something_else_is_left_alone():
    model = build("bottleneck")
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True  # over replicas, which one operation cannot
    before = kinds(model)
    speed_up(model)
    assert kinds(model) == before
    bit = build("bit")  # a kernel that is standardised first
    before = kinds(bit)
    speed_up(bit)
    assert kinds(bit) == before
