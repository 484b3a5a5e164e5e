"""The architectures are Keras alone: JAX gives the same logits, and TFLite needs builtin operators only."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from tiny import TINY, images, logits, shared

from kcls.artifact import open_artifact
from kcls.data.preprocess import Preprocess
from kcls.exporting.tflite import make_tflite

ON_JAX = """
import sys
import keras
import numpy as np
from tiny import TINY, build, logits
assert keras.backend.backend() == "jax"
folder = sys.argv[1]
for label in TINY:
    model = build(label)
    given = np.load(f"{folder}/{label}.npz")
    for i, weight in enumerate(w for w in model.weights if "seed_generator" not in w.path):
        weight.assign(given[str(i)])
    np.save(f"{folder}/{label}.npy", logits(model, given["images"]))
assert not [name for name in sys.modules if name.partition(".")[0] == "tensorflow"], "TensorFlow was imported"
"""


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory):
    """The folder with the logits of every tiny row, computed by Keras on JAX in another process."""
    pytest.importorskip("jax")
    folder = tmp_path_factory.mktemp("jax")
    for label in TINY:
        model = shared(label)
        weights = [keras.ops.convert_to_numpy(w) for w in model.weights if "seed_generator" not in w.path]
        np.savez(folder / f"{label}.npz", images=images(model), **{str(i): w for i, w in enumerate(weights)})
    environment = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX, str(folder)], env=environment, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parity
@pytest.mark.parametrize("label", TINY)
def test_jax_gives_the_same_logits(label, on_jax):
    expected = logits(shared(label), images(shared(label)))
    # Float32 sums in another order, through some tens of layers; a real difference is of the size of the logits.
    assert np.abs(np.load(on_jax / f"{label}.npy") - expected).max() < 1e-3 * np.abs(expected).max()


@pytest.mark.heavy
@pytest.mark.parametrize("label", TINY)
def test_a_network_converts_to_builtin_operators_and_answers_the_same(label, tmp_path):
    model = shared(label)
    names = tuple(map(str, range(model.output.shape[-1])))
    square = images(model, 1)[0].astype("uint8")
    # The converter is allowed builtin operators only, and fails where they do not suffice.
    (tmp_path / "model.tflite").write_bytes(make_tflite(model, names, Preprocess(square.shape[0]), "none"))
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits(model, square[np.newaxis].astype("float32"))))
    answer = open_artifact(tmp_path / "model.tflite").probabilities([square])
    # Probabilities 0..1 in float32, with batch norms folded into the kernels: rounding as above.
    assert np.abs(answer - expected).max() < 1e-3
