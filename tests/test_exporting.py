"""Exported files: the same answers, labels inside, nothing but what an edge runtime has; bad ones refused."""

import json
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

import kcls
from kcls.artifact import TFLiteClassifier, open_artifact
from kcls.errors import GateError, KclsError, RecipeError
from kcls.exporting import entry, gate
from kcls.exporting.tflite import make_tflite


@pytest.fixture(scope="module")
def exported(trained):
    """Reports of every kind of file, by (format, quantize)."""
    reports = kcls.export(trained, ["saved_model"])
    for quantize in ("none", "float16", "dynamic", "int8"):
        limits = {} if quantize == "none" else {"max_drop": 0.2, "min_agreement": 0.0}
        reports += kcls.export(trained, ["tflite"], quantize=quantize, **limits)
    return {(report["format"], report["quantize"]): report for report in reports}


TFLITE = [("tflite", quantize) for quantize in ("none", "float16", "dynamic", "int8")]


def test_every_report_says_how_good_and_how_large(exported, trained):
    for report in exported.values():
        assert report["count"] == 90 and report["split"] == "test"
        assert 0 <= report["agreement"] <= 1 and report["latency_ms"] > 0
        assert report["top1_model"] == pytest.approx(kcls.evaluate(trained).summary["top1"])
    sizes = [exported[kind]["size_bytes"] for kind in TFLITE]
    assert sizes[0] > sizes[1] > sizes[3]
    written = json.loads((trained.path / "export" / "report.json").read_text())
    assert written == [{**report, "path": Path(report["path"]).name} for report in exported.values()]


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
def test_labels_and_preprocessing_are_inside_the_file_and_beside_it(exported, trained, kind):
    path = exported[kind]["path"]
    with zipfile.ZipFile(path) as inside:
        assert inside.read("labels.txt").decode().split() == list("0123456789")
        assert json.loads(inside.read("kcls.json"))["preprocess"]["image_size"] == 8
    assert (trained.path / "export" / "labels.txt").read_text().split() == list("0123456789")
    tree = schema.ModelT.InitFromPackedBuf(bytearray(open(path, "rb").read()), 0)
    (entry_,) = [m for m in tree.metadata if m.name == b"TFLITE_METADATA"]
    metadata = bytes(tree.buffers[entry_.buffer].data)
    assert metadata[4:8] == b"M001" and b"labels.txt" in metadata and b"resnet20" in metadata


def test_every_artifact_gives_the_same_answer_for_the_same_photo(exported, trained, tmp_path):
    from PIL import Image

    photo = Image.fromarray(np.random.default_rng(3).integers(0, 256, (37, 51, 3), dtype=np.uint8))
    expected = open_artifact(trained.path).classify([photo])
    for (_, quantize), report in exported.items():
        answer = open_artifact(report["path"]).classify([photo])
        assert answer.shape == (1, 10) and answer.sum() == pytest.approx(1, abs=0.03)
        # A resize may round one grey level the other way; int8 has steps of 1/256.
        assert np.abs(answer - expected).max() < (0.1 if quantize in ("int8", "dynamic") else 0.01)


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


def test_a_bad_file_is_refused_and_the_old_one_kept(exported, trained, monkeypatch):
    class AlwaysRight(gate.HeldOut):
        """A test set on which the model is always right."""

        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.labels = self.expected.argmax(-1)

    def spoilt(model, *arguments):
        return make_tflite(keras.Model(model.input, -model.output), *arguments)

    old = open(exported["tflite", "int8"]["path"], "rb").read()
    monkeypatch.setattr(entry, "HeldOut", AlwaysRight)
    monkeypatch.setattr(entry, "make_tflite", spoilt)
    with pytest.raises(
        GateError, match=r"top-1 is 0\.0\d+, the model's 1\.0000 on 90 test images: a drop of .*max_drop"
    ):
        kcls.export(trained, ["tflite"], quantize="int8")
    assert open(exported["tflite", "int8"]["path"], "rb").read() == old
    assert not list((trained.path / "export").glob(".*"))


def test_a_float_file_must_give_the_models_own_probabilities(exported, trained, monkeypatch):
    class Off(TFLiteClassifier):
        def probabilities(self, prepared):
            return super().probabilities(prepared) * 0.9  # the largest of ten is .1 or more, so off by .01

    monkeypatch.setattr(entry, "TFLiteClassifier", Off)
    with pytest.raises(GateError, match=r"probabilities differ from the model's by 0\.\d+, more than 0\.002"):
        kcls.export(trained, ["tflite"], quantize="none")


def test_held_out_images_are_an_even_choice(trained, monkeypatch):
    monkeypatch.setattr(gate, "MOST_IMAGES", 10)
    held_out = gate.HeldOut(trained.recipe.data, trained.splits, open_artifact(trained.path))
    images = list(held_out)
    assert len(images) == len(held_out.labels) == len(held_out.expected) == 10
    assert images[0][0].size == (8, 8)


def test_an_unfinished_run_is_not_exported(trained, tmp_path):
    shutil.copytree(trained.path, tmp_path / "run", ignore=shutil.ignore_patterns("model.keras", "export"))
    with pytest.raises(KclsError, match=r"is not finished \(2 of 2 epochs are done\); `kcls train --resume"):
        kcls.export(tmp_path / "run", ["tflite"])
    assert not (tmp_path / "run" / "export").exists()


def test_what_cannot_be_exported_is_told(trained):
    with pytest.raises(RecipeError, match="no export section: say what to write"):
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


def test_a_keras_file_carries_its_class_names_anywhere(trained, tmp_path):
    shutil.copy(trained.model_file, tmp_path / "mine.keras")
    classifier = open_artifact(tmp_path / "mine.keras")
    assert classifier.class_names == trained.class_names and classifier.preprocess.image_size == 8


class Stub(TFLiteClassifier):
    """Answers what it is told."""

    def __init__(self, answer):
        self.answer = answer

    def prepare(self, image):
        return image

    def probabilities(self, prepared):
        return np.array([self.answer] * len(prepared), np.float32)


def test_the_gate_refuses_answers_that_are_no_numbers_or_others_than_the_models(trained):
    held_out = gate.HeldOut(trained.recipe.data, trained.splits, open_artifact(trained.path))
    for limits in (None, (1.0, 0.0)):
        with pytest.raises(GateError, match="not all finite"):
            gate.inspect(Stub([np.nan] * 10), held_out, limits)
    held_out.expected = np.eye(10)[np.arange(90) % 10]
    held_out.labels = np.zeros(90, int)
    with pytest.raises(GateError, match=r"gives the model's answer for 10\.00% of 90 test images, and min_agreement"):
        gate.inspect(Stub([1.0] + [0.0] * 9), held_out, (1.0, 0.9))
