"""What the layers say of their weights: which are not decayed, and which are the head's."""

from itertools import product

import keras
import numpy as np
import pytest
from parity import import_timm
from tiny import TINY, build, every_row, shared

import kcls
from kcls.models import create_model, registry, variants
from kcls.models.roles import head_layers, is_decayed
from kcls.weights.timm import NAME_MAPS


def blocks(*depths):
    return [f"stage{s}_block{b}" for s, depth in enumerate(depths, 1) for b in range(1, depth + 1)]


# What is not decayed although it has more than one dimension, or another name than a norm's weights and a bias.
SPECIAL = {
    "vit": {"class_token/tokens", "positions/positions"},
    "deit_distilled": {"class_token/tokens", "distillation_token/tokens", "positions/positions"},
    "swin": {
        f"stage{s}_block{b}_attention_bias/table"
        for s, depth in enumerate((2, 2, 6, 2), 1)
        for b in range(1, depth + 1)
    },
    "coatnet": {f"stage{s}_block{b}_attention_bias/table" for s, b in ((3, 1), (3, 2), (4, 1))},
    "cct": {"positions/positions"},
    "convnext": {f"{block}_scale/gamma" for block in blocks(3, 3, 9, 3)},
    "prelunet": {
        *(f"stage{s}_{i}_prelu/alpha" for s, i in product((1, 2, 3), range(1, 6))),
        *("stem_prelu/alpha", "fc1_prelu/alpha", "fc2_prelu/alpha"),
    },
    "cifar": set(),
}
# timm 1.0.31: what no_weight_decay() of the networks names, beside everything of one dimension.
TIMM = ("pos_embed", "cls_token", "dist_token", "relative_position_bias_table")
COUNTERPARTS = ("vit", "deit_distilled", "swin", "coatnet")


def not_decayed(model):
    return {weight.path for weight in model.trainable_weights if not is_decayed(weight)}


@pytest.mark.parametrize("label", SPECIAL)
def test_biases_norms_tokens_and_positions_are_not_decayed_and_nothing_else(label):
    model = shared(label)
    vectors = {w.path for w in model.trainable_weights if w.name in ("bias", "beta", "gamma")}
    assert not_decayed(model) == vectors | SPECIAL[label]


@pytest.mark.parametrize("label", COUNTERPARTS)
def test_what_is_not_decayed_is_what_timm_does_not_decay(label):
    model = shared(label)
    names = NAME_MAPS[model.name][0]
    theirs = {
        w.path
        for w in model.trainable_weights
        if len(w.shape) <= 1 or names.tensor_name(w.path).rpartition(".")[2] in TIMM
    }
    assert not_decayed(model) == theirs


@pytest.mark.parity
@pytest.mark.parametrize("label", [*COUNTERPARTS, "convnext"])
def test_timm_itself_does_not_decay_the_same_tensors(label):
    import_timm()
    import timm
    from timm.optim import param_groups_weight_decay

    name = TINY[label]["name"]
    names = NAME_MAPS[name][0]
    theirs = timm.create_model(names.architecture)
    skipped = getattr(theirs, "no_weight_decay", set)()
    group = next(g for g in param_groups_weight_decay(theirs, no_weight_decay_list=skipped) if g["weight_decay"] == 0)
    paths = {id(parameter): path for path, parameter in theirs.named_parameters()}
    ours = not_decayed(create_model(name, num_classes=1000))
    assert {names.tensor_name(path) for path in ours} == {paths[id(parameter)] for parameter in group["params"]}


def test_the_marks_survive_saving(tmp_path):
    shared("deit_distilled").save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert not_decayed(loaded) == not_decayed(shared("deit_distilled"))
    assert [layer.name for layer in head_layers(loaded)] == ["head", "head_distilled", "logits"]


def test_a_model_of_other_layers_decays_its_kernels_only():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.SeparableConv2D(4, 3),
            keras.layers.GroupNormalization(2),
            keras.layers.PReLU(shared_axes=(1, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    assert {w.name for w in model.weights if is_decayed(w)} == {"depthwise_kernel", "pointwise_kernel", "kernel"}


def test_a_bias_of_two_dimensions_is_a_bias():
    attention = keras.layers.MultiHeadAttention(2, 3)
    attention(np.zeros((1, 4, 6)), np.zeros((1, 4, 6)))
    assert {w.name for w in attention.weights if is_decayed(w)} == {"kernel"}


@every_row
def test_the_head_is_what_stands_behind_the_features(label):
    model = shared(label)
    named = [layer.name for layer in model.layers if layer.name.startswith("head") and layer.weights]
    assert [layer.name for layer in head_layers(model) if layer.weights] == named


def test_a_model_of_features_has_no_head():
    assert head_layers(build("cifar", num_classes=0)) == []


def classifier(x, num_classes):
    """A head whose layers are called otherwise."""
    x = keras.layers.Dense(6, name="hidden")(x)
    return keras.layers.Dense(num_classes, name="classifier")(x)


def test_a_head_is_known_by_its_place_and_not_by_its_name(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_VARIANTS", dict(registry._VARIANTS))

    @variants(image_size=8, num_classes=10, head=classifier, otherwise=dict())
    def features(x):
        return keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.Conv2D(4, 3, name="head_of_state")(x))

    keras.utils.set_random_seed(0)
    create_model("otherwise", num_classes=10).save(tmp_path / "model.keras")
    model = create_model("otherwise", num_classes=3)
    before = [w.numpy() for w in model.weights]
    assert kcls.load_pretrained(model, str(tmp_path / "model.keras")).head == "replaced"
    changed = [w.path for w, old in zip(model.weights, before, strict=True) if not np.array_equal(w.numpy(), old)]
    assert changed == ["head_of_state/kernel"]  # the biases are 0 in both
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [layer.name for layer in head_layers(loaded)] == ["hidden", "classifier"]
