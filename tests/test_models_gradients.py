"""Every trainable weight learns: nothing is cut off from the loss."""

import re

import keras
import numpy as np
import tensorflow as tf
from tiny import TINY, build, every_row, images, jitter, logits

from kcls.methods import AuxiliaryHeads, has_auxiliary_heads
from kcls.models.registry import get_variant

# Module of the builder, or label -> the weights that training cannot move. A linear bottleneck ends in a norm; between
# it and the norms of the next blocks there are only additions and 1x1 convolutions, so those take a shift out again.
LINEAR_BOTTLENECK = r"stage\d+_block\d+_project_norm/beta"
REDUNDANT = {name: LINEAR_BOTTLENECK for name in ("efficientnet", "mobilenet_v2", "mobilenet_v3")}
REDUNDANT["mobilenet_v4"] = r"stage\d+_block\d+_(start|project)_norm/beta"  # the first depthwise one is linear, too
REDUNDANT["cct"] = "pool_attention/bias"  # the same for all tokens, so the softmax takes it out again
REDUNDANT["coatnet"] = r"stage\d_block\d_pre_norm/beta"  # a 1x1 convolution and a norm follow
REDUNDANT["vgg_bn"] = r"stage\d_\d_conv/bias"  # published with one; the norm behind it takes it out again
REDUNDANT["spinal"] = r"head_layer\d_dense/bias"  # as for vgg_bn
REDUNDANT["bn_after_add_bottleneck"] = r"stage\d_unit1_shortcut_norm/beta"  # the norm after the sum takes it out again
REDUNDANT["relu_before_add_bottleneck"] = r"stage[12]_unit1_shortcut_norm/beta"  # as in a linear bottleneck


@every_row
def test_every_trainable_weight_gets_a_gradient(label):
    keras.utils.set_random_seed(0)  # of the dropped paths
    model = jitter(build(label))
    x = images(model, 8)
    # Unequal pulls on the logits: their plain sum has no gradient behind a batch norm.
    pull = np.random.default_rng(1).normal(size=(8, model.output.shape[-1])).astype("float32")
    trained = AuxiliaryHeads(model) if has_auxiliary_heads(model) else model
    with tf.GradientTape() as tape:
        heads = trained(x, training=True)
        loss = sum(tf.reduce_mean(head * pull) for head in (heads if isinstance(heads, list) else [heads]))
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    assert not [w.path for w, g in zip(model.trainable_weights, gradients, strict=True) if g is None]
    assert all(np.isfinite(g).all() for g in gradients)
    sizes = np.array([np.abs(g).max() for g in gradients])
    # A weight without effect, such as a bias before a batch norm, gets the rounding errors of float32: about
    # 1e-7 of the others' gradients. The smallest true one is 3e-4 of the largest.
    idle = [w.path for w, s in zip(model.trainable_weights, sizes, strict=True) if s < 1e-5 * sizes.max()]
    module = get_variant(TINY[label]["name"]).builder.__module__.rpartition(".")[2]
    assert not [path for path in idle if not re.fullmatch(REDUNDANT.get(label, REDUNDANT.get(module, "")), path)]


@every_row
def test_moving_statistics_and_random_states_move_in_training_only_and_nothing_else_is_kept(label):
    model = build(label)
    x = images(model, 8)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    kept = [w for w in model.non_trainable_weights if "seed_generator" not in w.path]
    assert {id(w) for w in kept} == {id(w) for norm in norms for w in (norm.moving_mean, norm.moving_variance)}

    def moved(training):
        before = [w.numpy() for w in model.non_trainable_weights]
        model(x, training=training)
        return [not np.array_equal(w.numpy(), b) for w, b in zip(model.non_trainable_weights, before, strict=True)]

    assert not any(moved(training=False))
    assert all(moved(training=True))


def test_a_training_step_moves_the_moving_statistics_a_tenth_of_the_way_to_the_batchs():
    model = build("cifar")  # the house's momentum is 0.9
    norm = model.get_layer("stem_norm")
    x = images(model, 8)
    batch = logits(keras.Model(model.input, norm.input), x)
    model(x, training=True)
    # A float32 mean of 2,048 values.
    assert np.allclose(norm.moving_mean, 0.1 * batch.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    assert np.allclose(norm.moving_variance, 0.9 + 0.1 * batch.var((0, 1, 2)), rtol=1e-4)
