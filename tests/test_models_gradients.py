"""Every trainable weight learns: nothing is cut off from the loss."""

import re

import keras
import numpy as np
import tensorflow as tf
from tiny import TINY, build, every_row, images, jitter

from kcls.methods import AuxiliaryHeads, has_auxiliary_heads
from kcls.models.registry import get_variant

# Module of the builder, or label -> the weights that training cannot move. A linear bottleneck ends in a norm; between
# it and the norms of the next blocks there are only additions and 1x1 convolutions, so those take a shift out again.
LINEAR_BOTTLENECK = r"stage\d+_block\d+_project_norm/beta"
REDUNDANT = {name: LINEAR_BOTTLENECK for name in ("efficientnet", "mobilenet_v2", "mobilenet_v3")}
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
def test_a_training_step_moves_the_moving_statistics(label):
    model = build(label)
    before = [w.numpy() for w in model.non_trainable_weights]
    model(images(model, 8), training=True)
    assert before or not [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert not [
        w.path for w, b in zip(model.non_trainable_weights, before, strict=True) if np.array_equal(w.numpy(), b)
    ]
