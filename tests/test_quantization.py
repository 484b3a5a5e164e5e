"""Quantization-aware networks: the weights and the answers of the ordinary one, and those of their int8 file."""

import functools
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tiny import TINY, build, images, jitter, logits

from kcls.data.preprocess import Preprocess
from kcls.errors import KclsError
from kcls.exporting.tflite import make_tflite
from kcls.quantization import calibrate, edge_form, plain, quantize_aware, unknown_ranges
from kcls.quantization.layers import WithBits
from kcls.quantization.ranges import Range

# Label -> what has no int8 form in it.
REFUSED = {
    **dict.fromkeys(["alexnet", "googlenet"], "Square"),  # of the local response norm
    **dict.fromkeys(["cct", "coatnet", "coatnet_mixed", "swin", "swin_drop_path"], "LayerNormalization"),
    **dict.fromkeys(["deit", "deit_distilled", "vit", "vit_mean_pool"], "ClassTokens"),
    **dict.fromkeys(["convnext", "convnext_drop_path"], "LayerNormalization"),
    **dict.fromkeys(["simple_cnn_m3", "simple_cnn_m5", "simple_cnn_m7"], "Mean"),
    "bit": "StdConv2D",
    "prelunet": "PReLU",
}
# One with a convolution before its norm, one behind it; the others are heavy.
FIRST = {"cifar", "relu_only_preact"}
SUPPORTED = [label for label in TINY if label not in REFUSED]
every_row = pytest.mark.parametrize(
    "label", [pytest.param(label, marks=() if label in FIRST else pytest.mark.heavy) for label in SUPPORTED]
)
NAMES = tuple(map(str, range(5)))


def pixels(model: keras.Model, count: int = 4) -> np.ndarray:
    """Random images of whole numbers, as a file takes them."""
    return np.round(images(model, count))


@functools.cache
def pair(label: str) -> tuple[keras.Model, keras.Model]:
    """The jittered tiny model of a row and its calibrated clone, which tests must leave as they are."""
    model = jitter(build(label))
    aware = quantize_aware(model)
    calibrate(aware, pixels(model))
    return model, aware


def scaled_error(model: keras.Model, other: keras.Model) -> float:
    """The largest difference of two models' logits, in standard deviations of the logits."""
    x = pixels(model)
    expected = logits(model, x)
    return float(np.abs(expected - logits(other, x)).max() / expected.std())


def run(contents: bytes, x: np.ndarray) -> tuple[np.ndarray, int, Counter]:
    """What a file answers to images; its graphs of the delegate, and the operators that run outside of them."""
    interpreter = Interpreter(model_content=contents, num_threads=1)
    interpreter.allocate_tensors()
    (image,), (score,) = interpreter.get_input_details(), interpreter.get_output_details()
    answers = []
    for square in x.astype("uint8"):
        interpreter.set_tensor(image["index"], square[np.newaxis])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(score["index"])[0] * np.float32(score["quantization"][0] or 1))
    operations = interpreter._get_ops_details()  # those that a delegate replaced, too
    delegates = [op for op in operations if op["op_name"] == "DELEGATE"]
    makers = {int(t): op for op in operations for t in op["outputs"] if op["op_name"] != "DELEGATE"}
    makers |= {int(t): op for op in delegates for t in op["outputs"]}
    outside, todo = {}, [score["index"]]
    while todo:  # back from the answer, over what really runs
        op = makers.pop(int(todo.pop()), None)
        if op:
            todo.extend(op["inputs"])
            outside[op["index"]] = op["op_name"]
    left = Counter(outside.values())
    graphs = left.pop("DELEGATE", 0)
    return np.array(answers), graphs, left


@every_row
def test_the_clone_has_the_weights_of_the_model_under_their_names(label):
    model, aware = pair(label)
    found = {weight.path: weight for weight in aware.weights}
    for weight in model.weights:
        np.testing.assert_array_equal(weight.numpy(), found.pop(weight.path).numpy())
    assert {path.rsplit("/", 1)[0].endswith("_range") for path in found} == {True}


@every_row
def test_what_the_clone_changes_is_rounding(label):
    model, _ = pair(label)
    aware = quantize_aware(model)
    calibrate(aware, pixels(model))
    coarse = scaled_error(model, aware)
    for layer in aware.layers:
        if isinstance(layer, WithBits | Range):
            layer.bits = 16
    calibrate(aware, pixels(model))
    # Steps are 256 times as fine; but those of gates, whose ranges are known, stay. Measured: 5.6 to 600 times.
    assert scaled_error(model, aware) < coarse / 4


@every_row
def test_every_weight_learns(label):
    aware = quantize_aware(pair(label)[0])
    assert len(unknown_ranges(aware)) == sum(isinstance(layer, Range) for layer in aware.layers)
    x = pixels(aware, 8)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(aware(x, training=True) - 1))
    for weight, gradient in zip(aware.trainable_weights, tape.gradient(loss, aware.trainable_weights), strict=True):
        assert gradient is not None, weight.path
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all() and gradient.any(), weight.path
    assert not unknown_ranges(aware)


@every_row
def test_plain_leads_back(label):
    model, aware = pair(label)
    back = plain(aware)
    assert [w.path for w in back.weights] == [w.path for w in model.weights]
    assert Counter(map(type, back.operations)) == Counter(map(type, model.operations))
    assert scaled_error(model, back) == 0


@every_row
def test_the_clone_survives_saving(label, tmp_path):
    _, aware = pair(label)
    aware.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits(aware, pixels(aware)), logits(loaded, pixels(aware)))


@every_row
def test_the_edge_form_computes_the_same(label):
    model, _ = pair(label)
    # Rounding of float32; 3.0001 for 3 in hard swish: 3e-4 of the logits' deviation at most was measured.
    assert scaled_error(model, edge_form(model)) < (1e-3 if label == "mobilenet_v3" else 1e-4)


@every_row
def test_the_int8_file_computes_what_the_clone_computes_in_one_graph(label):
    model, aware = pair(label)
    x = pixels(model)
    contents = make_tflite(aware, NAMES, Preprocess(x.shape[1]), "int8")
    answers, graphs, left = run(contents, x)
    expected = tf.nn.softmax(logits(aware, x)).numpy()
    print(
        label,
        np.abs(answers - expected).max(),
        np.abs(answers - tf.nn.softmax(logits(model, x)).numpy()).max(),
        graphs,
        left,
    )
    assert graphs == 1 and set(left) == {"QUANTIZE", "SOFTMAX"}
    assert np.abs(answers - expected).max() < 0.1


@pytest.mark.parametrize("label", [pytest.param(n, marks=() if n == "bit" else pytest.mark.heavy) for n in REFUSED])
def test_a_layer_without_an_int8_form_is_named(label):
    with pytest.raises(KclsError, match=rf"{REFUSED[label]} has no int8 form.*quantize dynamic"):
        quantize_aware(build(label))
