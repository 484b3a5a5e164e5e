"""Exported files: the same answers, labels inside, nothing but what an edge runtime has; bad ones refused."""

import hashlib
import json
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import get_args

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from conftest import TINY_RECIPE

import kcls
from kcls.artifact import SquareClassifier, open_artifact, softmax
from kcls.data.opening import open_data
from kcls.data.preprocess import Preprocess
from kcls.errors import GateError, KclsError, RecipeError
from kcls.exporting import gate, tflite
from kcls.exporting.tflite import make_tflite
from kcls.formats import FORMATS, QUANTIZATIONS, FormatName, QuantizationName
from kcls.predictions import Predictions
from kcls.weights.digest import weights_sha256


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A finished run that has learnt something (90 % of top-1), so that a file can be worse than it."""
    folder = tmp_path_factory.mktemp("learned")
    text = TINY_RECIPE.replace("train[:20%]", "train[:90%]").replace("test[:25%]", "test")
    (folder / "tiny.yaml").write_text(text.replace("epochs: 2", "epochs: 6"))
    return kcls.train(folder / "tiny.yaml", out=folder / "run")


@pytest.fixture(scope="module")
def exported(learned):
    """Reports of every kind of file, by (format, quantize), each within the limits that hold without being asked."""
    reports = kcls.export(learned, ["saved_model", "tflite"], quantize=list(QUANTIZATIONS))
    reports += kcls.export(learned, ["web"], quantize="int8")
    return {(report["format"], report["quantize"]): report for report in reports}


TFLITE = [("tflite", quantize) for quantize in QUANTIZATIONS]


def test_every_report_says_how_good_and_how_large(exported, learned):
    top1 = kcls.evaluate(learned).summary["top1"]
    assert top1 > 0.8
    for report in exported.values():
        assert report["count"] == 359 and report["split"] == "test"
        assert 0.9 <= report["agreement"] <= 1 and report["latency_ms"] > 0
        assert report["top1_model"] == top1 and report["top1"] >= top1 - 0.01
    sizes = [exported[kind]["size_bytes"] for kind in TFLITE]
    assert sizes[0] > sizes[1] > sizes[3]
    written = json.loads((learned.path / "export" / "report.json").read_text())
    assert written == [{**report, "path": Path(report["path"]).name} for report in exported.values()]


@pytest.mark.parametrize("kind", [("saved_model", "none"), *TFLITE])
def test_an_evaluation_of_a_file_gives_the_gates_top1_and_is_kept_in_its_run(exported, learned, kind):
    path = Path(exported[kind]["path"])
    evaluation = kcls.evaluate(path)
    assert evaluation.summary["top1"] == exported[kind]["top1"] and evaluation.summary["count"] == 359
    assert evaluation.folder == learned.path / "evaluation" / "test" / path.stem
    assert (evaluation.folder / "metrics.json").is_file() and np.isfinite(evaluation.summary["loss"])


def test_a_float_files_predictions_are_the_runs(exported, learned):
    expected = kcls.evaluate(learned).predictions
    log_softmax = np.log(softmax(expected.logits.astype(np.float64)))
    for kind in (("saved_model", "none"), ("tflite", "none")):
        found = kcls.evaluate(exported[kind]["path"]).predictions
        assert found.names == expected.names and (found.labels == expected.labels).all()
        # Float32 sums in another order; a logarithm of 1e-5 loses digits that the probability has.
        np.testing.assert_allclose(np.exp(found.logits), np.exp(log_softmax), atol=1e-4)
        np.testing.assert_allclose(found.logits, log_softmax, atol=1e-4)


def test_zeros_of_int8_rank_last_and_weigh_half_a_step_together(exported):
    file = open_artifact(exported["tflite", "int8"]["path"])
    squares = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    probabilities, logits = file.probabilities(squares), file.logits(squares)
    zeros = probabilities == 0
    assert zeros.any() and np.isfinite(logits).all()
    np.testing.assert_allclose(np.exp(logits[~zeros]), probabilities[~zeros], rtol=1e-6)  # float32
    np.testing.assert_allclose(logits[zeros], np.log(1 / 512 / 10), rtol=1e-6)  # below the least one, 1 / 256


def test_a_file_moved_elsewhere_asks_for_a_recipe(exported, learned, cli, tmp_path):
    moved = shutil.copy(exported["tflite", "none"]["path"], tmp_path / "mine.tflite")
    done = cli("evaluate", moved)
    assert done.code == 2 and "mine.tflite lies in no run" in done.err and "--recipe recipe.yaml" in done.err
    done = cli("evaluate", moved, "--recipe", learned.recipe_file, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["top1"] == exported["tflite", "none"]["top1"]
    assert list(tmp_path.iterdir()) == [moved]


def test_the_table_of_formats_knows_its_own_files_and_no_others(exported):
    for (name, _), report in exported.items():
        path = Path(report["path"])
        assert [n for n, format in FORMATS.items() if format.recognises(path)] == [name]
        assert path.name == FORMATS[name].name_of("resnet20", report["quantize"])


def test_a_recipe_may_name_the_formats_and_quantizations_of_the_table():
    assert get_args(FormatName) == tuple(FORMATS) and get_args(QuantizationName) == tuple(QUANTIZATIONS)


def test_float_files_give_the_models_probabilities(exported):
    assert exported["saved_model", "none"]["max_difference"] < 1e-5
    assert exported["tflite", "none"]["max_difference"] < 1e-5


@pytest.mark.parametrize("kind", TFLITE)
def test_a_tflite_file_is_static_uint8_and_builtin_only(exported, kind):
    interpreter = Interpreter(exported[kind]["path"])
    (image,), (score,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert image["dtype"] == np.uint8 and image["shape_signature"].tolist() == [1, 8, 8, 3]
    assert score["shape_signature"].tolist() == [1, 10]
    tree = schema.ModelT.InitFromPackedBuf(bytearray(open(exported[kind]["path"], "rb").read()), 0)
    assert all(code.customCode is None for code in tree.operatorCodes)
    codes = {code.builtinCode for code in tree.operatorCodes}
    assert schema.BuiltinOperator.SOFTMAX in codes and schema.BuiltinOperator.CUSTOM not in codes


def test_int8_is_int8_from_end_to_end(exported):
    interpreter = Interpreter(exported["tflite", "int8"]["path"])
    interpreter.allocate_tensors()
    assert interpreter.get_input_details()[0]["quantization"] == (1.0, 0)
    assert interpreter.get_output_details()[0]["dtype"] == np.uint8
    kinds = {t["dtype"] for t in interpreter.get_tensor_details()}
    assert not kinds & {np.float32, np.float16}
    assert exported["tflite", "int8"]["calibration_images"] == 256


def test_a_pixels_byte_is_its_int8_value_whatever_the_calibration_images(trained):
    classifier = open_artifact(trained.path)
    grey = [np.full((8, 8, 3), 128, np.uint8)]
    contents = make_tflite(classifier.model, classifier.class_names, classifier.preprocess, "int8", grey)
    assert Interpreter(model_content=contents).get_input_details()[0]["quantization"] == (1.0, 0)


@pytest.mark.parametrize("kind", TFLITE)
def test_labels_and_preprocessing_are_inside_the_file_and_beside_it(exported, learned, kind):
    path = exported[kind]["path"]
    with zipfile.ZipFile(path) as inside:
        assert inside.read("labels.txt").decode().split() == list("0123456789")
        assert json.loads(inside.read("kcls.json"))["preprocess"]["image_size"] == 8
    assert (learned.path / "export" / "labels.txt").read_text().split() == list("0123456789")
    tree = schema.ModelT.InitFromPackedBuf(bytearray(open(path, "rb").read()), 0)
    (entry_,) = [m for m in tree.metadata if m.name == b"TFLITE_METADATA"]
    metadata = bytes(tree.buffers[entry_.buffer].data)
    assert metadata[4:8] == b"M001" and b"labels.txt" in metadata and b"resnet20" in metadata


def test_every_file_says_which_weights_it_came_from(exported, learned):
    digest = hashlib.sha256()
    for weight in open_artifact(learned.path).model.weights:  # as anyone may compute it
        shape = ",".join(map(str, weight.shape))
        digest.update(f"{weight.path} float32 {shape}\n".encode() + weight.numpy().astype("<f4").tobytes())
    for (name, _), report in exported.items():
        assert report["weights_sha256"] == digest.hexdigest()
        if name == "tflite":
            with zipfile.ZipFile(report["path"]) as inside:
                config = json.loads(inside.read("kcls.json"))
        else:
            folder = Path(report["path"]) / {"saved_model": "assets.extra", "web": "."}[name]
            config = json.loads((folder / "kcls.json").read_text())
        assert config["weights_sha256"] == digest.hexdigest()


def test_other_weights_have_another_digest(learned):
    model = open_artifact(learned.path).model
    old, weight = weights_sha256(model), model.weights[-1]
    value = weight.numpy()
    weight.assign(np.nextafter(value, np.inf))
    assert weights_sha256(model) != old
    weight.assign(value)
    assert weights_sha256(model) == old


def test_every_artifact_gives_the_same_answer_for_the_same_photo(exported, learned):
    from PIL import Image

    photo = Image.fromarray(np.random.default_rng(3).integers(0, 256, (37, 51, 3), dtype=np.uint8))
    expected = open_artifact(learned.path).classify([photo])
    for (_, quantize), report in exported.items():
        answer = open_artifact(report["path"]).classify([photo])
        assert answer.shape == (1, 10) and answer.sum() == pytest.approx(1, abs=0.03)
        # A resize may round one grey level the other way; int8 has steps of 1/256.
        assert np.abs(answer - expected).max() < (0.01 if quantize in ("none", "float16") else 0.1)


WITHOUT_KERAS = """if True:
    import importlib.machinery, sys
    class Blocked:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("keras", "tf_keras", "kcls"):
                return importlib.machinery.ModuleSpec(name, self, is_package=True)
        def create_module(self, spec):
            raise ImportError(f"{spec.name} is blocked")
        def exec_module(self, module):
            pass
    sys.meta_path.insert(0, Blocked())
    import numpy as np, tensorflow as tf
    model = tf.saved_model.load(sys.argv[1])
    images = np.random.default_rng(0).integers(0, 256, (2, 30, 20, 3), dtype=np.uint8)
    raw = model.signatures["serving_default"](images=tf.constant(images))
    files = tf.stack([tf.io.encode_png(image) for image in images] + [tf.io.encode_png(images[0, :9])])
    encoded = model.signatures["encoded"](images=files)
    assert encoded["labels"].shape == (3, 10)
    assert (raw["labels"].numpy() == encoded["labels"].numpy()[:2]).all()
    assert (np.diff(raw["probabilities"].numpy()) <= 0).all()
    np.testing.assert_allclose(raw["probabilities"], encoded["probabilities"][:2], atol=1e-6)
    assert not {"keras", "tf_keras", "kcls"} & set(sys.modules)
    print(sorted(raw), raw["labels"].numpy()[0, 0].decode(), round(float(raw["probabilities"].numpy()[0].sum()), 4))
"""


def test_a_saved_model_serves_images_and_files_without_keras(exported, python):
    done = python(WITHOUT_KERAS, exported["saved_model", "none"]["path"])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("['labels', 'probabilities'] ") and done.stdout.rstrip().endswith(" 1.0")


def test_a_bad_file_is_refused_and_the_old_one_kept(exported, learned, monkeypatch):
    def spoilt(model, *arguments):
        return make_tflite(keras.Model(model.input, -model.output), *arguments)

    kind = ("tflite", "float16")
    old = open(exported[kind]["path"], "rb").read()
    monkeypatch.setattr(tflite, "make_tflite", spoilt)
    with pytest.raises(
        GateError, match=r"top-1 is 0\.\d+, the model's 0\.\d+ on 359 images of test: a drop of .*max_drop"
    ):
        kcls.export(learned, ["tflite"], quantize="float16")
    assert open(exported[kind]["path"], "rb").read() == old
    assert not list((learned.path / "export").glob(".*"))


def test_held_out_images_are_an_even_choice(trained, monkeypatch):
    monkeypatch.setattr(gate, "MOST_IMAGES", 10)
    source = gate.open_held_out(open_data(trained.recipe.data), trained.splits)
    assert gate.predict_held_out(Even(), source).names == tuple(source.names[::9])


class Even(SquareClassifier):
    """Finds every class equally likely."""

    class_names = tuple("0123456789")
    preprocess = Preprocess(8)

    def probabilities(self, prepared):
        return np.full((len(prepared), 10), 0.1, np.float32)


def test_an_unfinished_run_is_not_exported(trained, tmp_path):
    shutil.copytree(trained.path, tmp_path / "run", ignore=shutil.ignore_patterns("model.keras", "export"))
    with pytest.raises(KclsError, match=r"is not finished \(2 of 2 epochs are done\); `kcls train --resume"):
        kcls.export(tmp_path / "run", ["tflite"])
    assert not (tmp_path / "run" / "export").exists()


def test_what_cannot_be_exported_is_told(trained):
    with pytest.raises(RecipeError, match="no export section of a recipe says what to write"):
        kcls.export(trained)
    with pytest.raises(RecipeError, match="unknown format 'tflit'; did you mean 'tflite'"):
        kcls.export(trained, ["tflit"])
    with pytest.raises(RecipeError, match="unknown quantize 'int9'; did you mean 'int8'"):
        kcls.export(trained, ["tflite"], quantize="int9")
    with pytest.raises(RecipeError, match="quantize 'int8' has no effect without format tflite"):
        kcls.export(trained, ["saved_model"], quantize="int8")
    with pytest.raises(RecipeError, match="max_drop has no effect without a quantized tflite"):
        kcls.export(trained, ["saved_model"], max_drop=0.1)


def test_an_artifact_that_is_not_a_model_is_refused(exported, tmp_path):
    whole = open(exported["tflite", "none"]["path"], "rb").read()
    (tmp_path / "text.tflite").write_text("not a model")
    (tmp_path / "half.tflite").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty").mkdir()
    with pytest.raises(KclsError, match=r"text\.tflite is not a TFLite model"):
        open_artifact(tmp_path / "text.tflite")
    with pytest.raises(KclsError, match=r"half\.tflite holds no labels and preprocessing"):
        open_artifact(tmp_path / "half.tflite")
    with pytest.raises(KclsError, match=r"no artifact at .*nothing"):
        open_artifact(tmp_path / "nothing")
    with pytest.raises(KclsError, match="is not an artifact"):
        open_artifact(tmp_path / "empty")
    (tmp_path / "alone.keras").touch()
    with pytest.raises(KclsError, match=r"alone\.keras holds no labels and preprocessing"):
        open_artifact(tmp_path / "alone.keras")


SQUARE = '{"preprocess": {"image_size": %s, "fit": "%s", "crop_fraction": %s, "interpolation": "%s"}}'


@pytest.mark.parametrize("kind", ["tflite", "keras"])
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "labels.txt",
            "yes\nno\n",
            "contradicts itself: its model takes .* but .* of 8 px and 2 classes",
        ),
        ("labels.txt", "x" * 9_000_000, "holds no labels and preprocessing"),
        ("kcls.json", SQUARE % (16, "crop", 1, "bilinear"), "contradicts itself: .* of 16 px and 10 classes"),
        ("kcls.json", SQUARE % (-1, "crop", 1, "bilinear"), "image_size is -1"),
        ("kcls.json", SQUARE % ("true", "crop", 1, "bilinear"), "image_size is True"),
        ("kcls.json", SQUARE % (100_000, "crop", 1, "bilinear"), "image_size is 100000"),
        ("kcls.json", SQUARE % (8, "round", 1, "bilinear"), "fit is 'round'"),
        ("kcls.json", SQUARE % (8, "crop", 0, "bilinear"), "crop_fraction is 0"),
        ("kcls.json", SQUARE % (8, "crop", 1, "nearest"), "interpolation is 'nearest'"),
        ("kcls.json", '{"preprocess": {"image_size": 8, "colour": 1}}', "holds no labels and preprocessing"),
        ("kcls.json", '{"a": ' * 100_000, "holds no labels and preprocessing"),
        ("kcls.json", "[]", "holds no labels and preprocessing"),
    ],
)
def test_an_artifact_that_lies_about_itself_is_refused(exported, trained, tmp_path, kind, name, text, message):
    path = tmp_path / f"liar.{kind}"
    shutil.copy(exported["tflite", "none"]["path"] if kind == "tflite" else trained.model_file, path)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # the name is there twice: the last one counts
        archive.writestr(name, text)
    with pytest.raises(KclsError, match=message):
        open_artifact(path)


def test_a_keras_file_carries_its_class_names_anywhere(trained, tmp_path):
    shutil.copy(trained.model_file, tmp_path / "mine.keras")
    classifier = open_artifact(tmp_path / "mine.keras")
    assert classifier.class_names == trained.class_names and classifier.preprocess.image_size == 8


def answers(probabilities, labels) -> Predictions:
    names = tuple(map(str, range(len(labels))))
    with np.errstate(divide="ignore"):  # a sure answer
        logits = np.log(np.asarray(probabilities, np.float32))
    return Predictions(logits.clip(-80), np.asarray(labels), names, tuple("0123456789"))


SURE = np.eye(10)[np.arange(90) % 10]
RIGHT = answers(SURE, np.arange(90) % 10)


@pytest.mark.parametrize("limits", [None, (1.0, 0.0)])
def test_the_gate_refuses_answers_that_are_no_numbers(limits):
    broken = answers(np.full((90, 10), np.nan), RIGHT.labels)
    for file, model in ((broken, RIGHT), (RIGHT, broken)):
        with pytest.raises(GateError, match="not all finite on 90 images of test"):
            gate.compare(file, model, "test", limits)


def test_the_gate_refuses_a_float_file_that_is_off_though_all_its_answers_agree():
    for off in (answers(SURE * 0.9, RIGHT.labels), answers(SURE * 0.99 + 0.001, RIGHT.labels)):
        with pytest.raises(
            GateError, match=r"differ from the model's by 0\.\d+, more than 0\.002; the answers agree on 100\.00%"
        ):
            gate.compare(off, RIGHT, "test", None)
        assert gate.compare(off, RIGHT, "test", (0.0, 1.0))["agreement"] == 1
    assert gate.compare(answers(SURE * 0.999, RIGHT.labels), RIGHT, "test", None)["max_difference"] < 0.002


def test_the_gate_refuses_a_quantized_file_that_answers_otherwise_or_worse():
    one = answers(np.eye(10)[np.zeros(90, int)], RIGHT.labels)
    with pytest.raises(
        GateError, match=r"gives the model's answer for 10\.00% of 90 images of test, and min_agreement"
    ):
        gate.compare(one, RIGHT, "test", (1.0, 0.9))
    with pytest.raises(GateError, match=r"top-1 is 0\.1000, the model's 1\.0000 .* a drop of 0\.9000, and max_drop"):
        gate.compare(one, RIGHT, "test", (0.89, 0.0))
    report = gate.compare(one, RIGHT, "test", (0.9, 0.1))
    assert (report["top1_model"], report["top1"], report["agreement"]) == (1, pytest.approx(0.1), pytest.approx(0.1))
