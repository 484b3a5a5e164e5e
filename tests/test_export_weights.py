"""Weights without a run become files for a device, with a folder of images and no labels."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_artifact_sources import small, source  # noqa: F401
from test_photos import SOURCE, photos  # noqa: F401

import kcls
from kcls.artifact import open_artifact
from kcls.data.folder import open_halves
from kcls.errors import DataError, GateError, KclsError, RecipeError
from kcls.exporting import tflite
from kcls.exporting.tflite import make_tflite

NAMES = tuple("abcdefg")


@pytest.fixture
def weights(tmp_path) -> str:
    """The source of a small network with seven classes and random weights."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return source(tmp_path / "weights", "resnet18")[1]


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder with 41 images, some in folders in it."""
    random = np.random.default_rng(0)
    folder = tmp_path / "images"
    for i in range(41):
        path = folder / ("", "some", "some/more")[i % 3]
        path.mkdir(parents=True, exist_ok=True)
        noise = random.integers(0, 256, (1, 1, 3)) + random.integers(-60, 60, (32, 32, 3))
        Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(path / f"{i:02}.png")
    return folder


def test_half_of_the_images_and_the_others_are_disjoint_and_all(images):
    (images / ".hidden.png").touch()
    everything = {str(p.relative_to(images)) for p in images.rglob("[0-9]*.png")}
    for most, count in ((256, 20), (4, 4)):
        ranges, held_out = open_halves(images, NAMES, most)
        assert (ranges.count, held_out.count) == (count, 41 - count) and not ranges.labelled
        assert set(ranges.names) | set(held_out.names) == everything and len(everything) == 41
        assert ranges.class_names == held_out.class_names == NAMES
    places = [sorted(everything).index(name) for name in ranges.names]
    assert places == [0, 10, 20, 30]  # an even choice


def test_int8_of_a_source_is_calibrated_on_some_images_and_compared_on_the_others(
    weights, images, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(tflite, "make_tflite", lambda *a: seen.append(a[4]) or make_tflite(*a))
    (report,) = kcls.export(weights, ["tflite"], quantize="int8", calibration=images, min_agreement=0.7)
    path = Path("resnet18", "resnet18_int8.tflite")
    assert report["path"] == str(path) and report["quantize"] == "int8" and report["split"] == str(images)
    assert (report["calibration_images"], report["count"]) == (20, 21)
    assert report["top1"] is None and report["top1_model"] is None and 0.7 <= report["agreement"] <= 1
    assert weights in report["origin"]
    written = json.loads(Path("resnet18", "report.json").read_text())
    assert written == [{**report, "path": path.name}]
    assert Path("resnet18", "labels.txt").read_text().split() == list(NAMES)
    classifier = open_artifact(path)
    assert classifier.class_names == NAMES
    ranges = open_halves(images, NAMES, 256)[0]
    squares = [classifier.prepare(Image.open(images / name)) for name in ranges.names]
    assert (np.array(seen[0]) == np.array(squares)).all()


@pytest.mark.heavy
def test_float_files_of_a_keras_file_give_the_models_probabilities(trained, images, tmp_path):
    moved = shutil.copy(trained.model_file, tmp_path / "mine.keras")
    out = tmp_path / "out"
    reports = kcls.export(moved, ["saved_model", "tflite"], calibration=images, out=out)
    assert [report["max_difference"] < 1e-4 for report in reports] == [True, True]  # sums in another order
    assert "origin" not in reports[0] and "calibration_images" not in reports[1]
    assert {path.name for path in out.iterdir()} == {
        "saved_model",
        "resnet20_float32.tflite",
        "labels.txt",
        "report.json",
    }
    kcls.export(moved, ["tflite"], quantize="float16", calibration=images, out=out)  # of an earlier export
    rows = json.loads((out / "report.json").read_text())
    assert [row["path"] for row in rows] == ["saved_model", "resnet20_float32.tflite", "resnet20_float16.tflite"]


def test_a_file_that_answers_otherwise_is_refused_and_leaves_nothing_in_the_way(trained, images, tmp_path, monkeypatch):
    def spoilt(model, *arguments):
        import keras

        return make_tflite(keras.Model(model.input, -model.output), *arguments)

    asked = dict(quantize="dynamic", calibration=images, out=tmp_path / "out", min_agreement=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(tflite, "make_tflite", spoilt)
        words = r"the model's answer for .*% of 21 images of .*/images, and min_agreement asks for 50.00%"
        with pytest.raises(GateError, match=words):
            kcls.export(trained.model_file, ["tflite"], **asked)
    assert not list((tmp_path / "out").iterdir())
    assert kcls.export(trained.model_file, ["tflite"], **asked)[0]["agreement"] >= 0.5


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_without_images_it_is_told_what_to_name(quantize, weights):
    with pytest.raises(RecipeError, match=r"brings no images: name a folder of some, `--calibration FOLDER`"):
        kcls.export(weights, ["tflite"], quantize=quantize)


def test_what_has_no_effect_is_refused(weights, trained, images, tmp_path):
    with pytest.raises(RecipeError, match="max_drop has no effect on images without labels; min_agreement is"):
        kcls.export(weights, ["tflite"], quantize="int8", calibration=images, max_drop=0.1)
    for chosen in ({"calibration": images}, {"out": tmp_path / "out"}):
        with pytest.raises(RecipeError, match="calibration and out are not for a run: its recipe says which images"):
            kcls.export(trained, ["tflite"], **chosen)
    with pytest.raises(RecipeError, match="says what to write: name it, --saved-model or --tflite"):
        kcls.export(weights, calibration=images)


def test_what_is_not_weights_is_refused(images, tmp_path):
    (tmp_path / "model.tflite").touch()
    for artifact in (tmp_path / "model.tflite", images, tmp_path / "none.keras", "nothing"):
        with pytest.raises(
            KclsError, match="cannot be exported: it is no run, no .keras file and no source of weights"
        ):
            kcls.export(artifact, ["tflite"], calibration=images)


def test_a_folder_that_holds_something_else_is_not_written_to(weights, trained, images, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    for folder in (out, out / "thesis.txt"):
        with pytest.raises(KclsError, match=r"exists and is of no earlier export \(it has no report.json\); choose"):
            kcls.export(weights, ["tflite"], calibration=images, out=folder)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    kcls.export(weights, ["tflite"], calibration=images, out=tmp_path / "other")
    with pytest.raises(KclsError, match="other holds files of other classes; choose another --out"):
        kcls.export(trained.model_file, ["tflite"], calibration=images, out=tmp_path / "other")


def test_images_that_are_too_few_or_unreadable_are_told(weights, images, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(images / "00.png", few)
    with pytest.raises(DataError, match=r"few must hold two images or more \(.jpg.*\), not 1"):
        kcls.export(weights, ["tflite"], calibration=few)
    for name in ("zero1.png", "zero2.png"):
        (few / name).touch()
    with pytest.raises(DataError, match=r"2 of 2 images of .*few cannot be decoded.*\n.*zero1.png.*\n.*zero2.png"):
        kcls.export(weights, ["tflite"], calibration=few, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.heavy
def test_the_command_says_what_it_loaded_and_that_there_is_no_top1(weights, images, cli, tmp_path):
    out = tmp_path / "out"
    done = cli("export", weights, "--tflite", "--quantize", "dynamic", "--calibration", images, "--out", out)
    assert done.code == 0, done.err
    assert done.err.startswith(f"with {weights} (taken for timm's resnet18")
    (row,) = (line for line in done.out.splitlines() if line.strip().startswith("tflite"))
    assert row.split()[4:6] == ["-", "-"]
    assert f"compared on 21 images of {images}; latency" in done.out and f"The files are in {out}" in done.out
    assert cli("predict", out / "resnet18_dynamic_int8.tflite", images / "00.png").code == 0
    done = cli("export", weights, "--tflite", "--quantize", "int8")
    assert done.code == 2 and "--calibration FOLDER" in done.err and not done.out


@pytest.mark.heavy
def test_the_package_in_int8_answers_as_its_model_does(photos, tmp_path):  # noqa: F811
    random = np.random.default_rng(0)
    for number, photo in enumerate(photos):
        shorter = min(photo.size)
        for side in random.integers(int(0.8 * shorter), shorter, 64):
            left, top = (int(random.integers(0, length - side + 1)) for length in photo.size)
            photo.crop((left, top, left + side, top + side)).save(tmp_path / f"{number}_{left}_{top}_{side}.png")
    count = len(list(tmp_path.iterdir()))
    (report,) = kcls.export(SOURCE, ["tflite"], quantize="int8", calibration=tmp_path, out=tmp_path / "out")
    assert (report["calibration_images"], report["count"]) == (count // 2, count - count // 2)
    # .98 seen, and 1 where the model's first class is .05 ahead of its second: the others may fall either way.
    assert report["agreement"] >= 0.95
