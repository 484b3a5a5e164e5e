"""MAE: what is masked, what the network paints there, and the loss of its training."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy_reference import np_dense, np_layer_norm, weights
from parity import report
from test_vit import np_embed_patches, np_encoder_block
from tiny import build, images, jitter

from kcls.errors import RecipeError
from kcls.methods import MaskedAutoencoder
from kcls.models import create_model
from kcls.models.layers import MaskTokens, RandomMask
from kcls.models.positions import SinCosPositions

np_layer_norm = partial(np_layer_norm, epsilon=1e-6)

TOLERANCE = 1e-4  # float32 rounds to some 1e-6 of the pixels' deviation along these few blocks

OPTIONS = dict(depth=2, width=8, num_heads=2, decoder_depth=1, decoder_width=12, decoder_num_heads=3)


def network(name="mae_vit_base_16", **changes):
    """A tiny masked autoencoder: 16 patches, of which 4 are seen."""
    size = 4 * int(name.rpartition("_")[2])
    return create_model(name, **{"num_classes": 0, "image_size": size, **OPTIONS, **changes})


@pytest.fixture
def model(request):
    keras.utils.set_random_seed(0)
    return jitter_weights(network(*([request.param] if hasattr(request, "param") else [])))


def jitter_weights(model):
    """Redraws all weights but the states of the random generators."""
    states = {w.path: w.numpy() for w in model.weights if "seed_generator" in w.path}
    jitter(model)
    for weight in model.weights:
        if weight.path in states:
            weight.assign(states[weight.path])
    return model


def to_numpy(tensors):
    return [keras.ops.convert_to_numpy(t) for t in tensors]


def np_sin_cos(side, width):
    """One row a token, row by row of the grid: x, then y, each as sines, then cosines, of falling frequencies."""
    table = np.zeros((side * side, width))
    quarter = width // 4
    for token in range(side * side):
        for part, number in enumerate((token % side, token // side)):
            for i in range(quarter):
                angle = number / 10000 ** (i / quarter)
                table[token, (2 * part) * quarter + i] = np.sin(angle)
                table[token, (2 * part + 1) * quarter + i] = np.cos(angle)
    return table


def np_patches_of(x, size):
    """Section 3: the pixels of each patch, row by row."""
    sides = range(0, x.shape[1], size)
    return np.stack([x[:, i : i + size, j : j + size].reshape(len(x), -1) for i in sides for j in sides], 1)


@pytest.mark.parametrize("model", ["mae_vit_base_16", "mae_vit_large_16", "mae_vit_huge_14"], indirect=True)
def test_the_network_computes_what_the_paper_says(model, request):
    x = images(model)
    pixels, mask = to_numpy(model(x))
    embedded = np_embed_patches(model, x / 127.5 - 1) + np_sin_cos(4, 8)
    expected = []
    for i in range(len(x)):
        seen = np.flatnonzero(mask[i] == 0)  # in another order than the network's, which must not matter
        y = np.concatenate([weights(model, "class_token")[0], embedded[i : i + 1, seen]], 1)
        for name in ("block1", "block2"):
            y = np_encoder_block(model, y, 2, name)
        y = np_dense(model, np_layer_norm(model, y, "last_norm"), "decoder_embed")
        whole = np.repeat(weights(model, "mask_tokens")[0], 16, 1)
        whole[:, seen] = y[:, 1:]
        y = np.concatenate([y[:, :1], whole + np_sin_cos(4, 12)], 1)
        y = np_layer_norm(model, np_encoder_block(model, y, 3, "decoder_block1"), "decoder_norm")
        expected.append(np_dense(model, y, "pixels")[:, 1:])
    report(request.node.callspec.params["model"], pixels, np.concatenate(expected), "NumPy", TOLERANCE)


def test_three_quarters_are_masked_otherwise_for_each_sample_and_call(model):
    x = images(model, 6)
    masks = [to_numpy(model(x, training=training))[1] for training in (True, False)]
    for mask in masks:
        assert set(np.unique(mask)) == {0, 1}
        assert (mask.sum(1) == 12).all()
    assert len(np.unique(np.concatenate(masks), axis=0)) == 12  # of 1820 possible ones


def test_every_patch_is_masked_equally_often():
    mask = to_numpy(RandomMask(0.75)(np.zeros((4000, 8, 1), "float32")))[2]
    # The mean of 4000 draws with a deviation of .43 has one of .007; five of them are .034.
    assert np.abs(mask.mean(0) - 0.75).max() < 0.034


def test_what_is_masked_and_put_back_is_in_its_place():
    x = np.random.default_rng(0).normal(size=(3, 10, 4)).astype("float32")
    kept, place, mask = RandomMask(0.4)(x)
    layer = MaskTokens()
    whole = keras.ops.convert_to_numpy(layer([kept, place]))
    token = keras.ops.convert_to_numpy(layer.token)
    assert np.array_equal(whole, np.where(keras.ops.convert_to_numpy(mask)[..., None] == 1, token, x))


@pytest.mark.parametrize("rate", [0.0, 0.99, 1.0, -0.1])
def test_a_mask_of_nothing_or_of_everything_is_refused(rate):
    with pytest.raises(RecipeError, match=f"a mask rate of {rate} keeps .* of 16 tokens"):
        network(mask_rate=rate)


@pytest.mark.parametrize("prefix", [0, 1])
def test_positions_are_constants(prefix):
    layer = SinCosPositions(prefix=prefix)
    x = np.random.default_rng(0).normal(size=(1, prefix + 9, 8)).astype("float32")
    difference = keras.ops.convert_to_numpy(layer(x)) - x
    assert layer.weights == []
    assert np.abs(difference[0, prefix:] - np_sin_cos(3, 8)).max() < 1e-6  # float32 numbers of up to 4
    assert (difference[0, :prefix] == 0).all()


@pytest.mark.parametrize("shape, reason", [((9, 6), "a multiple of 4 channels, not 6"), ((8, 4), "not a square grid")])
def test_positions_without_a_grid_or_quarters_are_refused(shape, reason):
    with pytest.raises(ValueError, match=reason):
        SinCosPositions()(np.zeros((1, *shape), "float32"))


def test_the_decoder_knows_only_what_is_seen(model):
    x = images(model, 1)
    state = model.get_layer("mask").seed_generator.state
    before = state.numpy()
    pixels, mask = to_numpy(model(x))
    hidden = np.kron(mask.reshape(4, 4), np.ones((16, 16)))[None, ..., None] == 1
    state.assign(before)  # the same mask again
    again, same = to_numpy(model(np.where(hidden, 255 - x, x)))
    assert np.array_equal(same, mask)
    assert np.array_equal(again, pixels)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_the_mean_square_error_of_normalised_masked_patches(model, weighted):
    x = images(model, 3)
    autoencoder = MaskedAutoencoder(model)
    pixels, mask = to_numpy(autoencoder(x))
    counts = np.array([1.0, 0.0, 3.0]) if weighted else np.ones(3)
    errors, total = 0.0, 0.0
    patches = np_patches_of(x.astype("float64") / 127.5 - 1, 16)
    for i in range(3):
        for j in range(16):
            patch = patches[i, j]
            target = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
            errors += counts[i] * mask[i, j] * ((pixels[i, j] - target) ** 2).mean()
            total += counts[i] * mask[i, j]
    loss = autoencoder.compute_loss(x, None, [pixels, mask], counts if weighted else None)
    assert float(loss) == pytest.approx(errors / total, rel=1e-5)  # float32


def test_a_patch_of_one_colour_does_not_divide_by_zero(model):
    autoencoder = MaskedAutoencoder(model)
    loss = autoencoder.compute_loss(np.full((1, 64, 64, 3), 7.0), None, autoencoder(images(model, 1)))
    assert np.isfinite(float(loss))


@pytest.mark.heavy
def test_fit_trains_every_weight_of_the_network_without_labels(model):
    before = {w.path: w.numpy() for w in model.trainable_weights}
    autoencoder = MaskedAutoencoder(model)
    autoencoder.compile(keras.optimizers.Adam(1e-3))
    x = images(model, 8)
    history = autoencoder.fit(x, batch_size=4, epochs=15, verbose=0).history["loss"]
    assert history[-1] < 0.9 * history[0]  # it learns these eight images by heart, slowly
    assert not [w.path for w in model.trainable_weights if np.array_equal(w.numpy(), before[w.path])]
    assert autoencoder.evaluate(x, np.zeros(8), batch_size=4, verbose=0) > 0  # labels are not looked at
    pixels, mask = autoencoder.predict(x, verbose=0)
    assert pixels.shape == (8, 16, 768) and mask.shape == (8, 16)


def test_every_trainable_weight_gets_a_gradient(model):
    x = images(model, 4)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(x, training=True)[0]))
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    sizes = np.array([0 if g is None else np.abs(g).max() for g in gradients])
    # As in test_models_gradients.py: what has no effect gets rounding errors, 1e-7 of the others.
    assert not [w.path for w, s in zip(model.trainable_weights, sizes, strict=True) if s < 1e-5 * sizes.max()]


def test_a_saved_network_paints_the_same_under_the_same_mask(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.get_layer("mask").seed_generator.state.assign(model.get_layer("mask").seed_generator.state)
    for ours, theirs in zip(to_numpy(model(images(model))), to_numpy(loaded(images(model))), strict=True):
        assert np.array_equal(ours, theirs)


def test_mixed_precision_paints_in_float32():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = network()
        pixels, mask = model(images(model))
    finally:
        keras.config.set_dtype_policy(before)
    assert (keras.backend.standardize_dtype(pixels.dtype), model.get_layer("block1_mlp_expand").compute_dtype) == (
        "float32",
        "bfloat16",
    )
    assert (to_numpy([mask])[0].sum(1) == 12).all()


def test_the_encoder_has_the_weights_of_the_classifier_that_is_fine_tuned():
    theirs = build("vit", name="vit_base_16", image_size=64, depth=2, width=8, num_heads=2, mean_pool=True)
    encoder = {w.path: w.shape for w in network().trainable_weights}
    # The classifier learns its positions, and norms the mean of the patches instead of each.
    missing = {w.path for w in theirs.weights if encoder.get(w.path) != w.shape}
    assert missing == {"positions/positions", "pool_norm/gamma", "pool_norm/beta", "head/kernel", "head/bias"}


@pytest.mark.parametrize("size", ["base_16", "large_16", "huge_14"])
def test_classes_are_refused_with_the_name_of_the_classifier(size):
    reason = f"^model 'mae_vit_{size}' only pre-trains, without classes; fine-tune 'vit_{size}'$"
    with pytest.raises(RecipeError, match=reason):
        create_model(f"mae_vit_{size}", num_classes=10)


def test_a_classifier_is_refused():
    with pytest.raises(ValueError, match="resnet20 is not a masked autoencoder"):
        MaskedAutoencoder(build("cifar"))
