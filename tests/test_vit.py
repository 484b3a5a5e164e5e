"""ViT and DeiT: their block, their tokens and their heads; the whole networks are compared with timm, too."""

from functools import partial

import keras
import numpy as np
import pytest
from numpy_reference import assert_close, gelu, np_attention, np_dense, np_layer_norm, weights
from parity import import_timm, report
from test_parity_timm import TOLERANCE, redraw
from tiny import NUM_CLASSES, build, images, jitter, logits, shared

from kcls.errors import RecipeError
from kcls.models import create_model
from kcls.models.layers import ClassTokens, DropPath
from kcls.models.positions import PositionEmbedding
from kcls.models.registry import get_variant
from kcls.models.transformer import encoder_block
from kcls.weights.checkpoint import read_tensors
from kcls.weights.timm import NAME_MAPS

np_layer_norm = partial(np_layer_norm, epsilon=1e-6)


def np_encoder_block(model, x, num_heads, name):
    """Equations 2 and 3 of ViT."""
    x = x + np_attention(model, np_layer_norm(model, x, f"{name}_1_norm"), num_heads, f"{name}_attention")
    y = gelu(np_dense(model, np_layer_norm(model, x, f"{name}_2_norm"), f"{name}_mlp_expand"))
    return x + np_dense(model, y, f"{name}_mlp_reduce")


def np_embed_patches(model, x):
    """Section 3.1 of ViT: each patch, row by row, is a vector of its pixels; one matrix for all."""
    kernel, bias = weights(model, "patches")
    size = kernel.shape[0]
    sides = range(0, x.shape[1], size)
    pixels = [x[:, i : i + size, j : j + size].reshape(len(x), -1) for i in sides for j in sides]
    return np.stack(pixels, 1) @ kernel.reshape(-1, kernel.shape[-1]) + bias


def np_tokens(model, x, first):
    """What comes out of the two blocks of a tiny network; ``first`` names the tokens before the patches."""
    tokens = [weights(model, name)[0].repeat(len(x), 0) for name in first]
    x = np.concatenate([*tokens, np_embed_patches(model, x / 127.5 - 1)], 1) + weights(model, "positions")[0]
    for name in ("block1", "block2"):
        x = np_encoder_block(model, x, 2, name)
    return x


def test_a_block_computes_what_the_paper_says():
    tokens = keras.Input((5, 6))
    model = jitter(keras.Model(tokens, encoder_block(tokens, 3, hidden=24, epsilon=1e-6, name="b")))
    x = np.random.default_rng(1).normal(size=(2, 5, 6))
    assert_close(logits(model, x.astype("float32")), np_encoder_block(model, x, 3, "b"))


@pytest.mark.parametrize("label", ["vit", "deit"])
def test_the_network_answers_from_the_normed_class_token(label):
    model = shared(label)
    x = images(model)
    y = np_tokens(model, x, ["class_token"])
    assert_close(logits(model, x), np_dense(model, np_layer_norm(model, y[:, 0], "last_norm"), "head"))


def test_with_mean_pool_it_answers_from_the_normed_mean_of_the_patches():
    model = shared("vit_mean_pool")
    x = images(model)
    y = np_tokens(model, x, ["class_token"])
    assert_close(logits(model, x), np_dense(model, np_layer_norm(model, y[:, 1:].mean(1), "pool_norm"), "head"))


def test_a_distilled_network_answers_with_the_mean_of_two_heads_on_two_tokens():
    model = shared("deit_distilled")
    x = images(model)
    y = np_layer_norm(model, np_tokens(model, x, ["class_token", "distillation_token"]), "last_norm")
    heads = np_dense(model, y[:, 0], "head"), np_dense(model, y[:, 1], "head_distilled")
    assert_close(logits(model, x), (heads[0] + heads[1]) / 2)
    both = keras.Model(model.input, [model.get_layer(n).output for n in ("head", "head_distilled")])  # as documented
    for ours, expected in zip(both(x), heads, strict=True):
        assert_close(keras.ops.convert_to_numpy(ours), expected)


def test_plain_fit_trains_both_heads_of_a_distilled_network():
    model = build("deit_distilled")
    heads = [model.get_layer(name) for name in ("head", "head_distilled")]
    before = [head.kernel.numpy() for head in heads]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    model.fit(images(model, 5), np.arange(5) % NUM_CLASSES, batch_size=5, verbose=0)
    assert not [h.name for h, b in zip(heads, before, strict=True) if np.array_equal(h.kernel.numpy(), b)]


def test_without_positions_the_order_of_the_patches_does_not_matter():
    model = jitter(build("vit"))
    x = images(model)
    turned = x.reshape(2, 2, 16, 2, 16, 3)[:, ::-1, :, ::-1].reshape(x.shape)  # the four patches, last first
    assert np.abs(logits(model, turned) - logits(model, x)).max() > 0.1  # of logits of some units
    (layer,) = [layer for layer in model.layers if isinstance(layer, PositionEmbedding)]
    layer.positions.assign(np.zeros(layer.positions.shape))
    assert_close(logits(model, turned), logits(model, x))


@pytest.mark.parametrize("label, tokens", [("vit", 1), ("vit_mean_pool", 1), ("deit", 1), ("deit_distilled", 2)])
def test_the_position_table_knows_how_many_tokens_stand_before_the_grid(label, tokens):
    model = shared(label)
    assert sum(layer.count for layer in model.layers if isinstance(layer, ClassTokens)) == tokens
    assert model.get_layer("positions").prefix == tokens
    assert model.get_layer("positions").positions.shape == (1, tokens + 4, 8)


def test_drop_path_grows_linearly_from_0_to_its_rate():
    model = build("vit", depth=3, drop_path_rate=0.4)
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, DropPath)}
    assert rates == pytest.approx(
        {"block2_1_drop_path": 0.2, "block2_2_drop_path": 0.2, "block3_1_drop_path": 0.4, "block3_2_drop_path": 0.4}
    )


def test_the_drop_path_rates_are_the_published_ones():
    # Table 9 of DeiT; ViT has none.
    names = ("vit_base_16", "deit_tiny", "deit_base", "deit_small_distilled")
    assert [get_variant(name).option("drop_path_rate") for name in names] == [0.0, 0.1, 0.1, 0.1]


@pytest.mark.parametrize(
    "change, reason",
    [
        (dict(image_size=40), "the patches need a multiple of 16 px, such as 32 or 48"),
        (dict(image_size=8), "the patches need a multiple of 16 px, such as 16"),
        (dict(num_heads=3), "3 heads do not divide 8 channels"),
        (dict(num_heads=0), "0 heads do not divide 8 channels"),
        (dict(depth=0), "a transformer has 1 block or more, not 0"),
        (dict(depth=1, drop_path_rate=0.1), "drop_path_rate would have no effect"),
        (dict(drop_path_rate=1.0), "drop path rate is a probability"),
        (dict(drop_path_rate=-0.1), "drop path rate is a probability"),
    ],
)
def test_what_cannot_be_built_is_refused(change, reason):
    with pytest.raises(RecipeError, match=f"model 'vit_tiny_16' cannot be built for .* px images: .*{reason}"):
        build("vit", **change)


@pytest.mark.parity
def test_with_mean_pool_the_logits_are_those_of_timm(tmp_path):
    timm = import_timm()
    import torch
    from safetensors.torch import save_file

    x = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype("float32")
    theirs_x = torch.from_numpy((x / 127.5 - 1).transpose(0, 3, 1, 2).copy())
    theirs = redraw(timm.create_model("vit_tiny_patch16_224", global_pool="avg"), theirs_x)
    save_file({k: v.contiguous() for k, v in theirs.state_dict().items()}, tmp_path / "model.safetensors")
    with torch.inference_mode():
        expected = theirs(theirs_x).numpy()
    ours = create_model("vit_tiny_16", num_classes=1000, mean_pool=True)
    assert read_tensors(ours, tmp_path / "model.safetensors", NAME_MAPS["vit_tiny_16"][0])
    report("vit_tiny_16 with mean_pool", ours.predict_on_batch(x), expected, f"timm {timm.__version__}", TOLERANCE)
