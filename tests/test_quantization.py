"""Quantization-aware networks: the weights and the answers of the ordinary one, and those of their int8 file."""

import functools
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from tiny import TINY, build, images, jitter, logits

from kcls.data.preprocess import Preprocess
from kcls.errors import KclsError
from kcls.exporting.tflite import make_tflite
from kcls.quantization import calibrate, edge_form, plain, quantize_aware, unknown_ranges
from kcls.quantization.layers import DepthwiseNormalization, WithBits, fake_quantize_kernel
from kcls.quantization.ranges import Range

# Label -> what has no int8 form in it.
REFUSED = {
    **dict.fromkeys(["alexnet", "googlenet"], "Square"),  # of the local response norm
    **dict.fromkeys(["coatnet", "coatnet_mixed"], "gelu"),
    **dict.fromkeys(["cct", "swin", "swin_drop_path"], "LayerNormalization"),
    **dict.fromkeys(["deit", "deit_distilled", "vit", "vit_mean_pool"], "ClassTokens"),
    **dict.fromkeys(["convnext", "convnext_drop_path"], "LayerNormalization"),
    "bit": "StdConv2D",
    "prelunet": "PReLU",
}
# One of each kind of operation and of joint; of the other families, their int8 file.
KINDS = {
    *("vgg_bn", "cifar_drop_path", "densenet_cifar_bc", "seresnext", "exclusive_gating", "relu_only_preact", "spinal"),
    *("se_inception_resnet_v2", "efficientnet", "mobilenet_v3", "mobilenet_v4"),
}
FILES = KINDS | {
    *("vgg", "basic_a", "bottleneck", "densenet", "dropout_shortcut", "preact_bottleneck", "wrn"),
    *("resnetv2_drop_path", "se_bn_inception", "regnety", "efficientnet_lite", "mobilenet_v2", "simple_cnn_m5"),
}
FIRST = {"cifar_drop_path", "densenet_cifar_bc", "relu_only_preact"}
EDGE = {"densenet", "mobilenet_v3", "wrn", "se_bn_inception", "coatnet", "googlenet"}  # more that have an edge form
PTQ = {"densenet", "mobilenet_v3", "preact", "resnetv2"}  # that were more than one graph
every_kind = pytest.mark.parametrize(
    "label", [pytest.param(label, marks=() if label in FIRST else pytest.mark.heavy) for label in sorted(KINDS)]
)
NAMES = tuple(map(str, range(5)))


def pixels(model: keras.Model, count: int = 4) -> np.ndarray:
    """Random images of whole numbers, as a file takes them."""
    return np.round(images(model, count))


@functools.cache
def pair(label: str) -> tuple[keras.Model, keras.Model]:
    """The model of ``scaled`` and its calibrated clone, which tests must leave as they are."""
    model, x = scaled(label)
    aware = quantize_aware(model)
    calibrate(aware, x)
    return model, aware


def scaled(label: str) -> tuple[keras.Model, np.ndarray]:
    """The jittered tiny model of a row, and images.

    Its last weights are scaled such that the logits are near 1, or all probabilities would be 0 or 1.
    """
    model = jitter(build(label))
    x = pixels(model)
    scale = logits(model, x).std()
    last = [layer for layer in model.layers if layer.trainable_weights][-1]
    for weight in last.trainable_weights:
        weight.assign(weight / scale)
    return model, x


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


@every_kind
def test_the_clone_has_the_weights_of_the_model_under_their_names(label):
    model, aware = pair(label)
    found = {weight.path: weight for weight in aware.weights}
    for weight in model.weights:
        np.testing.assert_array_equal(weight.numpy(), found.pop(weight.path).numpy())
    assert {path.rsplit("/", 1)[0].endswith("_range") for path in found} == {True}


@every_kind
def test_what_the_clone_changes_is_rounding(label):
    model, _ = pair(label)
    aware = quantize_aware(model)
    calibrate(aware, pixels(model))
    coarse = scaled_error(model, aware)
    for layer in aware.layers:
        if isinstance(layer, WithBits | Range):
            layer.bits = 16
    calibrate(aware, pixels(model))
    # Steps are 256 times as fine; what is left above that is the rounding of float32.
    assert scaled_error(model, aware) < coarse / 20


@every_kind
def test_every_weight_learns(label):
    learns(quantize_aware(pair(label)[0]))


def learns(aware: keras.Model) -> None:
    """Checks that a step finds all ranges, and a gradient for each weight."""
    assert len(unknown_ranges(aware)) == sum(isinstance(layer, Range) for layer in aware.layers)
    x = pixels(aware, 8)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(aware(x, training=True) - 1))
    for weight, gradient in zip(aware.trainable_weights, tape.gradient(loss, aware.trainable_weights), strict=True):
        assert gradient is not None, weight.path
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all() and gradient.any(), weight.path
    assert not unknown_ranges(aware)


@every_kind
def test_plain_leads_back(label):
    model, aware = pair(label)
    back = plain(aware)
    assert [w.path for w in back.weights] == [w.path for w in model.weights]
    assert Counter(map(type, back.operations)) == Counter(map(type, model.operations))
    assert scaled_error(model, back) == 0


@every_kind
def test_the_clone_survives_saving(label, tmp_path):
    _, aware = pair(label)
    aware.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits(aware, pixels(aware)), logits(loaded, pixels(aware)))


@pytest.mark.parametrize("label", [*sorted(FIRST), *(pytest.param(n, marks=pytest.mark.heavy) for n in sorted(EDGE))])
def test_the_edge_form_computes_the_same(label):
    model = jitter(build(label))
    assert edge_form(model) is not model
    # Rounding of float32; 3.0001 for 3 in hard swish: 3e-4 of the logits' deviation at most was measured.
    assert scaled_error(model, edge_form(model)) < (1e-3 if label == "mobilenet_v3" else 1e-4)


@pytest.mark.parametrize("label", ["vgg", "vit"])
def test_a_network_that_the_delegate_has_is_its_own_edge_form(label):
    model = build(label)
    assert edge_form(model) is model


@pytest.mark.parametrize("label", ["cifar", *(pytest.param(n, marks=pytest.mark.heavy) for n in sorted(PTQ))])
def test_an_ordinary_network_is_one_graph_too(label):
    model = build(label)
    x = pixels(model)
    contents = make_tflite(model, NAMES, Preprocess(x.shape[1]), "int8", x.astype("uint8"))
    _, graphs, left = run(contents, x)
    assert graphs == 1 and left == {"QUANTIZE": 2, "SOFTMAX": 1}


@pytest.mark.parametrize(
    "label", [pytest.param(n, marks=() if n == "densenet_cifar_bc" else pytest.mark.heavy) for n in sorted(FILES)]
)
def test_the_int8_file_computes_what_the_clone_computes_in_one_graph(label):
    model, aware = pair(label)
    x = pixels(model)
    answers, graphs, left = run(make_tflite(aware, NAMES, Preprocess(x.shape[1]), "int8"), x)
    # A mean of fewer pixels at the edge of the map is no depthwise convolution.
    pools = {"AVERAGE_POOL_2D": 1} if label == "se_inception_resnet_v2" else {}
    assert left == {"QUANTIZE": 2, "SOFTMAX": 1, **pools} and graphs == 1 + len(pools)
    # A value between two steps may be rounded to either, which random networks multiply: 0.09 was measured, as much as
    # rounding itself makes there. test_quantization_digits.py says how trained ones agree.
    assert np.abs(answers - tf.nn.softmax(logits(aware, x))).max() < 0.15


every_transformer = pytest.mark.parametrize(
    "label", ["vit", *(pytest.param(n, marks=pytest.mark.heavy) for n in ("swin", "convnext", "coatnet", "cct"))]
)


@every_transformer
def test_the_mixed_file_computes_what_its_clone_computes_in_one_graph(label):
    model, _ = scaled(label)
    aware, x = quantize_aware(model, quantize="mixed"), pixels(model)
    calibrate(aware, x)
    answers, graphs, left = run(make_tflite(aware, NAMES, Preprocess(x.shape[1]), "mixed"), x)
    assert graphs == 1 and left == {"CAST": 1}
    # As for int8 files, and less is rounded here: ConvNeXt's 18 blocks were 0.015 off, and 0.08 with fused LayerScales.
    assert np.abs(answers - tf.nn.softmax(logits(aware, x))).max() < 0.03
    assert scaled_error(model, aware) > 1e-3  # the clone does round
    back = plain(aware)
    assert [w.path for w in back.weights] == [w.path for w in model.weights] and scaled_error(model, back) == 0


@every_transformer
def test_every_weight_of_a_mixed_clone_learns(label):
    learns(quantize_aware(scaled(label)[0], quantize="mixed"))


def test_in_a_mixed_network_what_a_kernel_takes_and_gives_is_rounded_and_nothing_twice():
    def parted(x):
        x = layers.Conv2D(4, 3, padding="same", name="a")(layers.Rescaling(1 / 255, name="scale")(x))
        x = layers.Activation("relu", name="relu")(layers.BatchNormalization(name="norm")(x))
        x = layers.LayerNormalization(name="ln")(layers.Conv2D(4, 1, name="b")(x))
        return layers.Activation("gelu", name="gelu")(layers.Dense(5, name="c")(x))

    aware = quantize_aware(network(parted), quantize="mixed")
    names = [layer.name for layer in aware.layers if isinstance(layer, Range)]
    assert names == ["a_input_range", "relu_range", "b_range", "c_input_range", "c_range"]
    with pytest.raises(KclsError, match="StdConv2D has a kernel without an int8 form"):
        quantize_aware(build("bit"), quantize="mixed")


@pytest.mark.heavy
@pytest.mark.parametrize("label", [label for label in TINY if label not in REFUSED and label not in FILES])
def test_every_other_network_of_convolutions_is_taken(label):
    quantize_aware(build(label))


@pytest.mark.parametrize("label", [pytest.param(n, marks=() if n == "bit" else pytest.mark.heavy) for n in REFUSED])
def test_a_layer_without_an_int8_form_is_named(label):
    with pytest.raises(KclsError, match=rf"{REFUSED[label]} has no int8 form.*quantize_aware mixed"):
        quantize_aware(build(label))


def network(function) -> keras.Model:
    """A model of what a function makes of images of 8 px."""
    image = keras.Input((8, 8, 3), name="image")
    return jitter(keras.Model(image, function(image), name="net"))


def ranges_of(model: keras.Model) -> dict[str, int]:
    """The names of a clone's ranges, each with how many tensors it has."""
    return {layer.name: layer.count for layer in quantize_aware(model).layers if isinstance(layer, Range)}


def test_tensors_that_are_joined_have_one_range_and_what_is_fused_has_none():
    def joined(x):
        a = layers.Conv2D(4, 3, padding="same", name="a")(x)
        a = layers.Activation("relu", name="a_relu")(layers.BatchNormalization(name="a_norm")(a))
        b = layers.Conv2D(4, 3, padding="same", name="b")(a)
        y = layers.MaxPooling2D(2, name="pool")(layers.Concatenate(name="join")([a, b]))
        y = layers.Conv2D(2, 1, name="c")(y)
        return layers.Dense(5, name="head")(layers.GlobalAveragePooling2D(name="mean")(y))

    assert ranges_of(network(joined)) == {"a_relu_range": 2, "c_range": 1, "mean_range": 1, "head_range": 1}


def test_a_norm_that_is_not_all_of_a_convolution_stands_alone():
    def parted(x):
        x = layers.Conv2D(4, 3, padding="same", name="conv")(x)
        return layers.Add(name="sum")([x, layers.BatchNormalization(name="norm")(x)])

    aware = quantize_aware(network(parted))
    assert isinstance(aware.get_layer("norm"), DepthwiseNormalization)
    assert ranges_of(network(parted)) == {"conv_range": 1, "norm_range": 1, "sum_range": 1}


def test_a_kernel_has_a_scale_for_each_channel():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 3)).astype("float32") * [1, 1e-2, 1e-4]
    rounded = fake_quantize_kernel(tf.constant(kernel, tf.float32), 8).numpy()
    for channel in range(3):
        step = np.abs(kernel[..., channel]).max() / 127
        error = np.abs(rounded - kernel)[..., channel].max()
        assert 0 < error <= step * 0.501  # half a step, and the rounding of float32
        assert len(np.unique(rounded[..., channel])) > 30  # 36 numbers, few of them in one step


def test_bits_are_those_of_each_layer():
    model = network(lambda x: layers.Conv2D(4, 3, name="second")(layers.Conv2D(4, 3, name="first")(x)))
    assert [quantize_aware(model, 4).get_layer(name).bits for name in ("first", "second")] == [4, 4]
    aware = quantize_aware(model, {"second": 4})
    assert [aware.get_layer(name).bits for name in ("first", "second")] == [8, 4]
    assert len(np.unique(fake_quantize_kernel(tf.linspace([-1.0], [1.0], 50), 4))) == 15
    with pytest.raises(KclsError, match="no layer 'secnd' with a kernel.*did you mean 'second'"):
        quantize_aware(model, {"secnd": 4})
    with pytest.raises(KclsError, match="4 or 8 bits, which a file can hold, not 5 "):
        quantize_aware(model, 5)


def test_four_bits_are_four_bits_in_the_file():
    model = network(lambda x: layers.GlobalAveragePooling2D(name="mean")(layers.Conv2D(64, 3, name="conv")(x)))
    aware = quantize_aware(model, 4)
    calibrate(aware, pixels(model))
    contents = make_tflite(aware, NAMES, Preprocess(8), "int8")
    tree = schema.ModelT.InitFromPackedBuf(bytearray(contents), 0)
    (kernel,) = (tensor for tensor in tree.subgraphs[0].tensors if tensor.type == schema.TensorType.INT4)
    assert kernel.shape.tolist() == [64, 3, 3, 3]
    assert len(tree.buffers[kernel.buffer].data) == 64 * 27 / 2
    answers, *_ = run(contents, pixels(model))
    # Two steps of the answers.
    np.testing.assert_allclose(answers, tf.nn.softmax(logits(aware, pixels(model))), atol=2 / 256)


def test_a_range_follows_the_extremes_of_its_tensors_and_holds_still_outside_of_training():
    shared = Range(2, momentum=0.9)
    first, second, wider = tf.constant([-1.0, 2.0]), tf.constant([0.5, 8.0]), tf.constant([-3.0, 2.0])
    assert np.isnan(shared(first)).all()
    shared(first, number=0, training=True)
    shared(second, number=1, training=True)
    shared(wider, number=0, training=True)
    np.testing.assert_allclose(shared.low, [-1.2, 0])  # a tenth of the way from -1 to -3; 0 is always inside
    np.testing.assert_allclose(shared.high, [2, 8])
    kept = np.array(shared.low)
    step = 9.2 / 255
    np.testing.assert_allclose(shared(tf.constant([100.0, -100.0])), [8, -1.2], atol=step)  # 0 is a whole step
    shared.trainable = False
    shared(tf.constant([-100.0]), training=True)
    np.testing.assert_array_equal(shared.low, kept)


def test_calibration_finds_the_extremes_of_all_images_anew():
    aware = quantize_aware(network(lambda x: layers.Rescaling(1 / 255, name="scale")(x)))
    found = aware.get_layer("scale_range")
    x = np.zeros((3, 8, 8, 3))
    x[0], x[1] = 255, 51
    calibrate(aware, x, batch_size=1)
    np.testing.assert_allclose([found.low[0], found.high[0]], [0, 1], atol=1e-6)
    calibrate(aware, x[1:], batch_size=1)
    np.testing.assert_allclose([found.low[0], found.high[0]], [0, 0.2], atol=1e-6)


def test_frozen_norms_keep_their_statistics():
    aware = quantize_aware(build("preact"))
    norms = [layer for layer in aware.layers if isinstance(layer, layers.BatchNormalization)]
    alone = [norm for norm in norms if isinstance(norm, DepthwiseNormalization)]
    assert alone and len(alone) < len(norms)
    for norm in norms:
        norm.trainable = False
    before = [np.array(norm.moving_mean) for norm in norms]
    aware(pixels(aware), training=True)
    for old, norm in zip(before, norms, strict=True):
        np.testing.assert_array_equal(old, norm.moving_mean)


def test_under_mixed_precision_the_clone_computes_in_float32():
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        aware = quantize_aware(build("cifar"))
        assert {layer.compute_dtype for layer in aware.layers[1:]} == {"float32"}
    finally:
        keras.config.set_dtype_policy(policy)


@pytest.mark.heavy
def test_a_saved_clone_is_opened_in_a_new_process(python, tmp_path):
    pair("cifar")[1].save(tmp_path / "model.keras")
    code = "import sys; from pathlib import Path; from kcls.weights.own import open_model as open"
    code += "; print(open(Path(sys.argv[1])).name)"
    done = python(code, tmp_path / "model.keras")
    assert done.stdout.strip() == "resnet20", done.stderr


def test_what_would_mislead_is_refused():
    model, aware = pair("cifar")
    with pytest.raises(KclsError, match="is quantization-aware already"):
        quantize_aware(aware)
    with pytest.raises(KclsError, match="not quantization-aware"):
        plain(model)
    with pytest.raises(KclsError, match=r"its file is int8, not 'float16'.*plain\(model\)"):
        make_tflite(aware, NAMES, Preprocess(16), "float16")
    with pytest.raises(KclsError, match=r"has learnt no range for \d+ activations, such as normalize_range"):
        make_tflite(quantize_aware(model), NAMES, Preprocess(16), "int8")
    with pytest.raises(KclsError, match="resnet20 has no ranges to calibrate"):
        calibrate(model, pixels(model))
    with pytest.raises(KclsError, match="from no images"):
        calibrate(aware, pixels(model)[:0])
