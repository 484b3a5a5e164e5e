"""Any artifact measured on a folder of labelled images, whose folders are called as its classes or their synsets."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import write_images
from PIL import Image
from test_artifact_sources import small, source  # noqa: F401
from test_photos import PHOTOS, SOURCE, photos  # noqa: F401

import kcls
from kcls import labels
from kcls.artifact import open_artifact
from kcls.errors import DataError, RecipeError
from kcls.evaluation.metrics import summarize
from kcls.evaluation.plots import plot_confusion
from kcls.formats import FORMATS
from kcls.predictions import Predictions
from kcls.printing import print_classes

IMAGENET = labels.imagenet()


@pytest.fixture
def imagenet(tmp_path) -> str:
    """The source of a small network with 1,000 classes and random weights."""
    (tmp_path / "weights").mkdir()
    return source(tmp_path / "weights", "resnet18", num_classes=1000)[1]


def answered(artifact, folder: Path, count: int = 12) -> list[tuple[Image.Image, str]]:
    """Images, and the class that the artifact answers for each."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(count):
        noise = random.integers(0, 256, (1, 1, 3)) + random.integers(-60, 60, (32, 32, 3))
        found.append(Image.fromarray(noise.clip(0, 255).astype(np.uint8)))
    names = [prediction.labels[0][0] for prediction in kcls.predict(artifact, found, top_k=1)]
    assert len(set(names)) > 1
    return list(zip(found, names, strict=True))


def lay_out(folder: Path, images, spell) -> Path:
    """Writes each image to the folder that ``spell`` makes of its class and its number."""
    for i, (image, name) in enumerate(images):
        path = folder / spell(name, i)
        path.mkdir(parents=True, exist_ok=True)
        image.save(path / f"{i}.png")
    return folder


def synset(name: str, _=None) -> str:
    return IMAGENET.synsets[IMAGENET.names.index(name)]


def same_numbers(a, b) -> bool:
    """Whether two evaluations of the same images, perhaps in another order, give the same."""
    return all(a.summary[key] == pytest.approx(b.summary[key], rel=1e-6) for key in {**a.summary, **b.summary})


def test_classes_are_found_by_name_and_imagenets_by_synset_too(imagenet, tmp_path):
    images = answered(imagenet, tmp_path)
    wrong = next(name for name in IMAGENET.names if name not in {name for _, name in images})
    images[0] = (images[0][0], wrong)
    by_name = kcls.evaluate(imagenet, data=lay_out(tmp_path / "names", images, lambda name, _: name))
    by_synset = kcls.evaluate(imagenet, data=lay_out(tmp_path / "synsets", images, synset))
    mixed = lay_out(tmp_path / "mixed", images, lambda name, i: synset(name) if i % 2 else name)
    assert by_name.summary["top1"] == pytest.approx(11 / 12) and by_name.summary["count"] == 12
    assert same_numbers(by_name, by_synset) and same_numbers(by_name, kcls.evaluate(imagenet, data=mixed))
    found = by_synset.predictions
    assert found.logits.shape == (12, 1000) and found.class_names == IMAGENET.names
    for name, label in zip(found.names, found.labels, strict=True):
        assert name.split("/")[0] == IMAGENET.synsets[label]


def test_a_model_trained_on_synsets_reads_names_and_another_thousand_classes_do_not():
    for class_names in (IMAGENET.names, IMAGENET.synsets):
        assert labels.positions(class_names) == {
            **{name: i for i, name in enumerate(IMAGENET.names)},
            **{name: i for i, name in enumerate(IMAGENET.synsets)},
        }
    assert list(labels.positions(IMAGENET.names[::-1])) == list(IMAGENET.names[::-1])


def test_some_classes_are_enough_and_means_are_over_those(trained, tmp_path):
    for name in ("3", "7"):
        write_images(tmp_path / "digits" / name, 4, (int(name) * 20,) * 3, size=8)
    evaluation = kcls.evaluate(trained, data=tmp_path / "digits", out=tmp_path / "out")
    assert evaluation.summary["count"] == 8 and evaluation.predictions.logits.shape == (8, 10)
    assert evaluation.predictions.labels.tolist() == [3] * 4 + [7] * 4
    rows = {row["class"]: row for row in evaluation.per_class}
    assert len(rows) == 10 and [name for name, row in rows.items() if row["count"]] == ["3", "7"]
    for key in ("precision", "recall", "f1"):
        assert evaluation.summary[f"macro_{key}"] == np.mean([rows["3"][key], rows["7"][key]])
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["count"] == 8
    assert (tmp_path / "out" / "confusion.png").is_file()


def test_a_mean_over_classes_leaves_out_those_that_do_not_occur():
    logits = np.eye(4)[[0, 1, 3]]
    found = Predictions(logits, np.array([0, 1, 1]), ("a", "b", "c"), tuple("wxyz"))
    assert summarize(found, 1)["macro_recall"] == pytest.approx((1 + 1 / 2) / 2)


def test_every_artifact_is_measured_and_nothing_is_written_unasked(trained, tmp_path):
    write_images(tmp_path / "digits" / "3", 5, (99, 99, 99), size=8)
    model = open_artifact(trained.model_file)
    for name, file in (("tflite", "mine.tflite"), ("saved_model", "mine")):
        chosen = {"quantize": "none"} if name == "tflite" else {}
        FORMATS[name].write(model.model, model.class_names, model.preprocess, tmp_path / file, **chosen)
    before = sorted(trained.path.rglob("*"))
    expected = kcls.evaluate(trained, data=tmp_path / "digits")
    for artifact in (trained.model_file, tmp_path / "mine.tflite", tmp_path / "mine"):
        found = kcls.evaluate(artifact, data=tmp_path / "digits")
        assert found.folder is None
        # Of probabilities: float32 sums in another order.
        assert all(found.summary[key] == pytest.approx(expected.summary[key], abs=1e-4) for key in expected.summary)
    assert sorted(trained.path.rglob("*")) == before


def refused(folder: Path, class_names=("tiger cat", "tabby", "tench")) -> str:
    from kcls.data.listing import Folder

    with pytest.raises(DataError) as error:
        Folder(folder).labelled(class_names)
    return str(error.value)


def test_a_folder_that_is_no_class_is_named_with_the_nearest(tmp_path):
    for name in ("tiger_cat", "tench", "dog"):
        write_images(tmp_path / "photos" / name, 1, (9, 9, 9))
    words = "that are not called as a class of the model: 'dog', 'tiger_cat'; did you mean 'tiger cat'?"
    assert refused(tmp_path / "photos").endswith(words)
    for i in range(9):
        write_images(tmp_path / "photos" / f"x{i}", 1, (9, 9, 9))
    assert refused(tmp_path / "photos").endswith("'x0', 'x1', 'x2' and 6 more")
    write_images(tmp_path / "synsets" / "n01440765", 1, (9, 9, 9))
    assert "'n01440765'; did you mean 'n01440764'?" in refused(tmp_path / "synsets", IMAGENET.names)
    assert "'n01440764'" in refused(lay_out(tmp_path / "n", [(Image.new("RGB", (8, 8)), "tench")], synset))


def test_a_folder_without_classes_or_images_is_told_what_to_do(tmp_path):
    for split in ("train", "val"):
        write_images(tmp_path / "photos" / split / "tench", 1, (9, 9, 9))
    assert refused(tmp_path / "photos").endswith(
        f"splits are train, val: name the folder of one, such as {tmp_path}/photos/val"
    )
    write_images(tmp_path / "loose", 1, (9, 9, 9))
    assert "loose holds no folder; each image lies in one that is called as its class" in refused(tmp_path / "loose")
    (tmp_path / "empty" / "tench").mkdir(parents=True)
    assert "class folder" in refused(tmp_path / "empty") and "holds no image" in refused(tmp_path / "empty")
    assert refused(tmp_path / "nowhere") == f"no folder {tmp_path}/nowhere"


def test_an_image_that_cannot_be_read_is_named_with_its_folder(trained, tmp_path):
    write_images(tmp_path / "digits" / "3", 2, (9, 9, 9), size=8)
    (tmp_path / "digits" / "3" / "zero.png").touch()
    with pytest.raises(DataError, match=rf"1 of 3 images of {tmp_path}/digits cannot be decoded.*\n.*zero.png"):
        kcls.evaluate(trained, data=tmp_path / "digits")


@pytest.mark.parametrize(
    "chosen, words",
    [({"recipe": "x.yaml"}, "data and recipe exclude each other"), ({"split": "val"}, "data and split exclude each")],
)
def test_only_one_may_say_which_images(chosen, words, trained, tmp_path):
    with pytest.raises(RecipeError, match=words):
        kcls.evaluate(trained, data=tmp_path, **chosen)


def test_a_source_lies_in_no_run_wherever_one_stands(imagenet, trained, monkeypatch):
    monkeypatch.chdir(trained.path)
    with pytest.raises(RecipeError, match=r"lies in no run, .*`--data FOLDER`, or a recipe"):
        kcls.evaluate(imagenet)


def test_the_command_measures_a_source_and_says_what_it_loaded(imagenet, cli, tmp_path):
    folder = lay_out(tmp_path / "photos", answered(imagenet, tmp_path), synset)
    done = cli("evaluate", imagenet, "--data", folder)
    assert done.code == 0 and done.err.startswith(f"with {imagenet} (taken for timm's resnet18"), done.err
    assert done.out.startswith(f"{folder}: 12 images  loss ") and "top1 1.0000" in done.out
    classes = {path.name for path in folder.iterdir()}
    assert len([line for line in done.out.splitlines() if " 1.0000 " in line and "top1" not in line]) == len(classes)
    assert done.out.endswith(f"Next: kcls predict {imagenet} IMAGE...\n")
    result = json.loads(cli("evaluate", imagenet, "--data", folder, "--json").out)
    assert result["data"] == str(folder) and "split" not in result and result["top1"] == 1
    assert len(result["per_class"]) == 1000


def test_the_command_refuses_with_the_code_of_the_mistake(imagenet, cli, tmp_path):
    write_images(tmp_path / "photos" / "tnech", 1, (9, 9, 9))
    done = cli("evaluate", imagenet, "--data", tmp_path / "photos")
    assert done.code == 3 and "'tnech'; did you mean 'tench'?" in done.err and not done.out
    done = cli("evaluate", imagenet, "--data", tmp_path / "photos", "--split", "val")
    assert done.code == 2 and "data and split exclude each other" in done.err


def row(name: int, count: int, recall: float) -> dict:
    return {"class": f"class {name}", "count": count, "precision": 0.5, "recall": recall, "f1": 0.5}


def test_of_many_classes_the_worst_are_shown(capsys):
    rows = [row(i, i % 2, (i * 37 % 1000) / 1000) for i in range(200)]  # every second occurs
    print_classes(rows)
    out = capsys.readouterr().out
    shown = re.findall(r"^ *(class \d+) ", out, re.MULTILINE)
    assert shown == [r["class"] for r in sorted(rows[1::2], key=lambda r: r["recall"])[:10]]
    assert "These are the 10 of 100 classes with the lowest recall; --json and per_class.csv in --out have all." in out
    print_classes(rows[:100])
    out = capsys.readouterr().out
    assert len(re.findall(r"^ *class \d+ ", out, re.MULTILINE)) == 50 and "lowest" not in out


def test_a_picture_has_the_classes_that_occur_or_are_answered(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_yticks", lambda self, places, names, **_: drawn.append(names))
    confusion = np.zeros((1000, 1000), int)
    confusion[3, 3], confusion[3, 700], confusion[20, 3] = 5, 2, 1
    plot_confusion(confusion, IMAGENET.names, "title", tmp_path / "thousand.png")
    assert drawn == [tuple(IMAGENET.names[i] for i in (3, 20, 700))]


@pytest.mark.heavy
def test_real_weights_on_real_photos_by_synset_and_by_name(photos, tmp_path):  # noqa: F811
    shown = [(photo, sorted(right)[-1]) for photo, right in zip(photos, PHOTOS.values(), strict=True)]
    by_name = kcls.evaluate(SOURCE, data=lay_out(tmp_path / "names", shown, lambda name, _: name))
    by_synset = kcls.evaluate(SOURCE, data=lay_out(tmp_path / "synsets", shown, synset))
    assert same_numbers(by_name, by_synset)
    assert by_name.summary["top1"] == 1 and by_name.predictions.logits.shape == (7, 1000)
