"""A saved model gives the same answers, here and where kcls is not."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from tiny import TINY, images, logits, shared

KERAS_ALONE = """
import sys
import keras
import numpy as np
model = keras.models.load_model("model.keras")
np.save("answer.npy", keras.ops.convert_to_numpy(model(np.load("images.npy"), training=False)))
assert not [name for name in sys.modules if name.partition(".")[0] == "kcls"]
"""


# Those with layers of our own; the others, and the rest of the table, are heavy.
OWN = ("bit", "cifar", "convnext_drop_path", "deit_distilled", "googlenet", "spinal", "swin", "vit")
ROWS = [pytest.param(label, marks=() if label in OWN else pytest.mark.heavy) for label in TINY]


@pytest.fixture(scope="module", params=ROWS)
def pair(request, tmp_path_factory):
    """A model, and what was loaded from its file."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    shared(request.param).save(path)
    return shared(request.param), keras.models.load_model(path)


def test_a_saved_model_gives_identical_logits(pair):
    model, loaded = pair
    assert np.array_equal(logits(loaded, images(model)), logits(model, images(model)))


def test_a_saved_model_keeps_its_weight_order(pair):
    model, loaded = pair
    assert [(w.path, w.shape) for w in loaded.weights] == [(w.path, w.shape) for w in model.weights]


def test_a_model_without_own_layers_loads_with_keras_alone(tmp_path):
    model = shared("cifar")
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images(model))
    subprocess.run([sys.executable, "-c", KERAS_ALONE], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert np.array_equal(np.load(tmp_path / "answer.npy"), logits(model, images(model)))
