"""The architectures are Keras alone: JAX gives the same logits, and TFLite needs builtin operators only."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny import KINDS, TINY, build, images, logits, shared

from kcls.artifact import open_artifact
from kcls.data.preprocess import Preprocess
from kcls.exporting.tflite import make_tflite
from kcls.models import blocks
from kcls.models.count import weightless
from kcls.models.registry import get_variant

# Compiled as a whole and built without first values: Keras on JAX compiles every operation of a first call, and every
# drawing of a first value, by itself, which takes ten times as long.
ON_JAX = """
import sys
import jax
import keras
import numpy as np
from tiny import KINDS, build
from kcls.models.count import weightless
assert keras.backend.backend() == "jax"
folder = sys.argv[1]
for label in sorted(KINDS):
    given = np.load(f"{folder}/{label}.npz")
    with weightless():
        model = build(label)
    learnt = [w for w in model.weights if "seed_generator" not in w.path]
    values = {id(weight): given[str(i)] for i, weight in enumerate(learnt)}
    trainable = [values[id(v)] for v in model.trainable_variables]
    others = [values.get(id(v), np.zeros(v.shape, v.dtype)) for v in model.non_trainable_variables]
    call = jax.jit(lambda t, o, x: model.stateless_call(t, o, x, training=False)[0])
    np.save(f"{folder}/{label}.npy", call(trainable, others, given["images"]))
assert not [name for name in sys.modules if name.partition(".")[0] == "tensorflow"], "TensorFlow was imported"
"""


MODELS = Path(blocks.__file__).parent
SHARED = {str(MODELS / f"{name}.py") for name in ("blocks", "layers", "transformer")}


def kinds(label):
    """What a row is made of: its architecture's file, the shared functions that build it, and its operations."""
    found = {get_variant(TINY[label]["name"]).builder.__module__}

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename in SHARED:
            found.add(frame.f_code.co_qualname)

    before = sys.getprofile()
    with weightless():
        sys.setprofile(note)
        try:
            model = build(label)
        finally:
            sys.setprofile(before)
        for operation in model.operations:
            function = getattr(operation, "activation", None)
            grouped = getattr(operation, "groups", 1) != 1
            found.add((type(operation).__name__, getattr(function, "__name__", None), grouped))
    return found


@pytest.mark.heavy
def test_every_kind_of_operation_and_shared_block_of_the_table_is_in_the_rows_that_are_converted():
    rows = {label: kinds(label) for label in TINY}
    converted = set().union(*(rows[label] for label in KINDS))
    assert not {label: found - converted for label, found in rows.items() if found - converted}


@pytest.mark.parity
def test_jax_gives_the_same_logits(tmp_path):
    """One process on JAX for all rows: it starts slower than it computes."""
    pytest.importorskip("jax")
    for label in KINDS:
        model = shared(label)
        weights = [keras.ops.convert_to_numpy(w) for w in model.weights if "seed_generator" not in w.path]
        np.savez(tmp_path / f"{label}.npz", images=images(model), **{str(i): w for i, w in enumerate(weights)})
    environment = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    off = {}
    for label in KINDS:
        expected = logits(shared(label), images(shared(label)))
        off[label] = np.abs(np.load(tmp_path / f"{label}.npy") - expected).max() / np.abs(expected).max()
    # Float32 sums in another order, through some tens of layers; a real difference is of the size of the logits.
    assert not {label: difference for label, difference in off.items() if not difference < 1e-3}


@pytest.mark.heavy
@pytest.mark.parametrize("label", sorted(KINDS))
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
