"""Every trainable weight learns: nothing is cut off from the loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import TINY, build, images, jitter


@pytest.mark.parametrize("label", TINY)
def test_every_trainable_weight_gets_a_gradient(label):
    keras.utils.set_random_seed(0)  # of the dropped paths
    model = jitter(build(label))
    x = images(model, 8)
    # Unequal pulls on the logits: their plain sum has no gradient behind a batch norm.
    pull = np.random.default_rng(1).normal(size=(8, model.output.shape[-1])).astype("float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(x, training=True) * pull)
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    assert not [w.path for w, g in zip(model.trainable_weights, gradients, strict=True) if g is None]
    assert all(np.isfinite(g).all() for g in gradients)
    sizes = np.array([np.abs(g).max() for g in gradients])
    # A weight without effect, such as a bias before a batch norm, gets the rounding errors of float32: about
    # 1e-7 of the others' gradients. The smallest true one is 3e-4 of the largest.
    idle = [w.path for w, s in zip(model.trainable_weights, sizes, strict=True) if s < 1e-5 * sizes.max()]
    assert not idle


@pytest.mark.parametrize("label", TINY)
def test_a_training_step_moves_the_moving_statistics(label):
    model = build(label)
    before = [w.numpy() for w in model.non_trainable_weights]
    model(images(model, 8), training=True)
    assert before
    assert not [
        w.path for w, b in zip(model.non_trainable_weights, before, strict=True) if np.array_equal(w.numpy(), b)
    ]
