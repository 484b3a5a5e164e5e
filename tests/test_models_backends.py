"""The architectures are Keras alone: JAX gives the same logits, and TFLite needs builtin operators only."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from tiny import TINY, images, logits, shared

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
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    model = shared(label)
    x = images(model, 1)
    call = tf.function(lambda image: model(image, training=False), input_signature=[tf.TensorSpec(x.shape)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()], model)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # no Flex: it would fail
    interpreter = Interpreter(model_content=converter.convert(), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    expected = logits(model, x)
    # Float32 with batch norms folded into the kernels: rounding as above.
    assert np.abs(answer - expected).max() < 1e-3 * np.abs(expected).max()
