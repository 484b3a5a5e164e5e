"""Training methods around a network."""

import json
import typing

import keras
import numpy as np
import pytest
from conftest import TINY_RECIPE
from tiny import NUM_CLASSES, build, images, logits

import kcls
from kcls.errors import RecipeError
from kcls.methods import METHODS, AuxiliaryHeads, Method, Watched, make_method
from kcls.sections import MethodSection
from kcls.training import stages
from kcls.training.curves import plot_curves
from kcls.training.objective import measured, validated


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture
def network():
    keras.utils.set_random_seed(0)
    return build("googlenet", drop_rate=0.0, auxiliary_drop_rate=0.0)


def test_auxiliary_heads_add_three_tenths_of_their_losses_in_training_only(network):
    x = images(network, 6)
    y = np.arange(6) % NUM_CLASSES
    model = AuxiliaryHeads(network)
    losses = [float(cross_entropy()(y, head)) for head in model(x, training=False)]
    model.compile(keras.optimizers.SGD(0.0), cross_entropy(), metrics=["accuracy"], run_eagerly=True)
    result = model.evaluate(x, y, batch_size=6, verbose=0, return_dict=True)
    assert result["loss"] == pytest.approx(losses[0], rel=1e-5)  # float32
    assert result["accuracy"] == pytest.approx((logits(network, x).argmax(-1) == y).mean())
    history = model.fit(x, y, batch_size=6, verbose=0).history
    assert history["loss"][0] == pytest.approx(losses[0] + 0.3 * (losses[1] + losses[2]), rel=1e-5)


def test_auxiliary_heads_train_the_network_itself(network):
    before = {w.path: w.numpy().copy() for w in network.trainable_weights}
    model = AuxiliaryHeads(network)
    model.compile(keras.optimizers.SGD(0.1), cross_entropy(), run_eagerly=True)
    model.fit(images(network, 6), np.arange(6) % NUM_CLASSES, batch_size=6, verbose=0)
    assert not [w.path for w in network.trainable_weights if np.array_equal(w.numpy(), before[w.path])]
    assert sorted(w.path for w in model.weights) == sorted(w.path for w in network.weights)


def test_a_network_without_auxiliary_heads_is_refused():
    with pytest.raises(ValueError, match="resnet20 has no auxiliary heads"):
        AuxiliaryHeads(build("cifar"))


def test_a_recipe_can_name_every_method_and_no_other():
    assert set(METHODS) == set(typing.get_args(MethodSection.model_fields["name"].annotation))


def test_a_network_is_trained_as_it_was_made_for_unless_told_otherwise(network):
    assert make_method(network).weight == 0.3
    assert make_method(network, "auxiliary_heads", weight=0.5).weight == 0.5
    assert type(make_method(build("cifar"))) is Method


def test_a_method_that_does_not_fit_the_network_is_refused(tiny_recipe):
    recipe = kcls.load_recipe(tiny_recipe, ["method={name: auxiliary_heads}"])
    with pytest.raises(RecipeError, match="method 'auxiliary_heads' does not fit .*: resnet20 has no auxiliary heads"):
        kcls.train(recipe)


def test_a_network_that_only_pre_trains_is_refused_with_what_to_do(tiny_recipe):
    recipe = kcls.load_recipe(tiny_recipe, ["model={name: mae_vit_base_16}"])
    with pytest.raises(RecipeError, match=r"MaskedAutoencoder\(kcls.create_model\(.mae_vit_base_16.,"):
        kcls.train(recipe)


class Taught(Method):
    """Holds a teacher of the network's architecture, first; and takes the worst epoch for the best."""

    watched = Watched("top1", "min")

    def __init__(self, network):
        teacher = keras.models.clone_model(network)
        teacher.trainable = False
        super().__init__(network)
        self.teacher = teacher


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A run of ``Taught``, and the method."""
    folder = tmp_path_factory.mktemp("taught")
    (folder / "tiny.yaml").write_text(TINY_RECIPE)
    recipe = kcls.load_recipe(folder / "tiny.yaml", ["train.epochs=3"])
    methods = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "make_method", lambda network: methods.append(Taught(network)) or methods[0])
        return kcls.train(recipe, out=folder / "run"), methods[0]


def test_the_network_is_saved_and_not_a_teacher_of_the_same_architecture(taught):
    run, method = taught
    saved = {w.path: w.numpy() for w in keras.models.load_model(run.model_file).weights}
    assert {w.path for w in method.teacher.weights} == saved.keys()  # each path is there twice
    assert all(np.array_equal(saved[w.path], w.numpy()) for w in method.network.weights)
    assert not np.array_equal(saved["head/kernel"], method.teacher.get_layer("head").kernel)
    with np.load(run.best_checkpoint) as best:
        assert len(best.files) == len(saved) + 1  # no teacher, but what the file says of itself


def test_the_lowest_of_what_is_watched_is_kept(taught):
    run, _ = taught
    rows = run.history()
    best = [row for row in rows if row["best"]][-1]
    assert best["val_top1"] == min(row["val_top1"] for row in rows) < max(row["val_top1"] for row in rows)
    with np.load(run.best_checkpoint) as file:
        assert json.loads(str(file["meta"]))["epoch"] == best["epoch"]


@pytest.mark.parametrize("direction, kept", [("max", 2), ("min", 1)])
def test_among_equal_epochs_the_one_of_the_lower_loss_is_kept(direction, kept):
    rows = [
        {"val_top1": 0.4, "val_loss": 1.1},
        {"val_top1": 0.4, "val_loss": 1.0},
        {"val_top1": 0.5, "val_loss": 3.0},
        {"val_top1": 0.5, "val_loss": 4.0},
    ]
    watched = Watched("top1", direction)
    assert max(range(4), key=lambda i: watched.rank(rows[i])) == kept


def test_a_method_without_labels_has_a_row_and_curves_of_its_loss(tmp_path):
    assert measured({"loss": 0.5}) == {"loss": 0.5, "objective": 0.5}
    row = {"epoch": 1, **measured({"loss": 0.5, "psnr": 20}), "lr": 0.1, "val_loss": 0.6, "val_psnr": 19, "best": True}
    assert validated(row) == ["loss", "psnr"]
    plot_curves([row], Watched("loss", "min"), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


RECIPE = """\
model:   {name: googlenet, options: {width_multiplier: 0.125}}
data:    {source: digits, train: "train[:5%]", val: "train[95%:]"}
image:   {size: 80}
augment: {flip: false}
optimizer: {name: sgd, lr: 0.01}
train:   {epochs: 1, batch_size: 32}
"""


@pytest.mark.heavy
def test_a_recipe_trains_the_auxiliary_heads_and_saves_the_network(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    run = kcls.train(tmp_path / "recipe.yaml", out=tmp_path / "run")
    row = run.history()[0]
    assert row["objective"] > 1.5 * row["loss"]  # three heads that know nothing yet: 1.6 times
    model = keras.models.load_model(run.model_file)
    assert model.output.shape == (None, 10)
    bias = model.get_layer("head_auxiliary1").get_weights()[1]
    assert np.abs(bias).max() > 0  # it has learnt
    with np.load(run.best_checkpoint) as best:
        assert any("head_auxiliary1" in name for name in best.files)
