"""Training methods around a network."""

import keras
import numpy as np
import pytest
from tiny import NUM_CLASSES, build, images, logits

import kcls
from kcls.methods import AuxiliaryHeads


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


RECIPE = """\
model:   {name: googlenet, options: {width_multiplier: 0.125}}
data:    {source: digits, train: "train[:5%]", val: "train[95%:]", image_size: 80}
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
