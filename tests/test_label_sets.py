"""Several right answers for an image: who is right, who is left out, and what a file of them may not say."""

import json

import numpy as np
import pytest
from conftest import write_images

import kcls
from kcls import labels
from kcls.errors import DataError
from kcls.evaluation.label_sets import read_label_sets, summarize_sets

IMAGENET = labels.imagenet()
NAMES = ("tench/1.png", "tench/2.png", "gold/3.png")
CLASSES = ("tench", "gold", "7")


def read(tmp_path, value, names=NAMES, classes=CLASSES):
    file = tmp_path / "sets.json"
    file.write_text(value if isinstance(value, str) else json.dumps(value))
    return read_label_sets(file, names, classes)


def test_images_are_named_by_path_or_file_and_classes_by_name_or_index(tmp_path):
    value = {"tench/1.png": ["tench", 1], "2.png": [], "3.png": [2], "unseen.png": ["?"]}
    assert read(tmp_path, value) == [{0, 1}, set(), {2}]
    assert read(tmp_path, {"1.png": [1], "tench/1.png": [0]}, NAMES[:1]) == [{0}]  # the path is nearer
    assert read(tmp_path, {"1.png": ["7"]}, NAMES[:1]) == [{2}]  # a text is a name


def test_the_file_of_the_paper_is_in_the_order_of_the_validation_images(tmp_path):
    names = ("ILSVRC2012_val_00000003.JPEG", "n01440764/ILSVRC2012_val_00000001.JPEG")
    assert read(tmp_path, [[5, 999], [], [7]], names, IMAGENET.names) == [{7}, {5, 999}]
    assert read(tmp_path, {"a.png": ["n01443537", "tench"]}, ("a.png",), IMAGENET.names) == [{0, 1}]


def test_an_answer_in_the_set_is_right_and_an_empty_set_is_left_out():
    sets = [frozenset(s) for s in ({0, 1}, set(), {2}, {1})]
    found = summarize_sets(np.array([1, 0, 0, 1]), sets)
    assert found == {"real_top1": pytest.approx(2 / 3), "real_count": 3}
    with pytest.raises(DataError, match="the label sets of all these images are empty"):
        summarize_sets(np.array([1]), [frozenset()])


@pytest.mark.parametrize(
    "value, words",
    [
        ({"1.png": [0]}, "does not know the image tench/2.png"),
        ([[0]], "does not know the image tench/1.png"),
        ({"1.png": [3]}, "1.png: a class is a name or an index from 0 to 2, not 3"),
        ({"1.png": [-1]}, "an index from 0 to 2, not -1"),
        ({"1.png": [True]}, "an index from 0 to 2, not True"),
        ({"1.png": ["tnech"]}, "1.png: the model has no class 'tnech'; did you mean 'tench'"),
        ({"1.png": "tench"}, "1.png must have a list of classes, not 'tench'"),
        ("{", "sets.json is not JSON"),
        ("3", "must hold an object .image: .class, ..... or a list of lists, not 3"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(value, words, tmp_path):
    with pytest.raises(DataError, match=words):
        read(tmp_path, value)


def test_a_file_name_that_two_images_have_is_refused(tmp_path):
    names = ("a/1.png", "b/1.png")
    with pytest.raises(DataError, match="names 1.png, and 2 images are called so: name them by their paths"):
        read(tmp_path, {"1.png": [0]}, names)
    assert read(tmp_path, {"a/1.png": [0], "b/1.png": [1]}, names) == [{0}, {1}]
    assert read(tmp_path, {"1.png": [0], "b/1.png": [1]}, ("1.png", "b/1.png")) == [{0}, {1}]  # a path, too


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot read .*none.json: No such file"):
        read_label_sets(tmp_path / "none.json", NAMES, CLASSES)
    (tmp_path / "bytes.json").write_bytes(b"\xff")
    with pytest.raises(DataError, match="bytes.json is not JSON"):
        read_label_sets(tmp_path / "bytes.json", NAMES, CLASSES)


def sets_for(artifact, folder, file):
    """Label sets in which the first image is wrong, the second has none and the others are right, beside another."""
    images = sorted(folder.rglob("*.png"))
    answers = [int(prediction.labels[0][0]) for prediction in kcls.predict(artifact, images, top_k=1)]
    sets = {str(image.relative_to(folder)): [str(a), (a + 1) % 10] for image, a in zip(images, answers, strict=True)}
    first, second = list(sets)[:2]
    sets[first], sets[second] = [(answers[0] + 1) % 10], []
    file.write_text(json.dumps(sets))
    return file


def test_an_evaluation_has_both_accuracies(trained, tmp_path):
    write_images(tmp_path / "digits" / "3", 5, (99, 99, 99), size=8)
    file = sets_for(trained, tmp_path / "digits", tmp_path / "sets.json")
    write_images(tmp_path / "digits", 1, (9, 9, 9), size=8)  # beside the classes, as in a training of no class
    found = kcls.evaluate(trained, data=tmp_path / "digits", label_sets=file)
    plain = kcls.evaluate(trained, data=tmp_path / "digits").summary
    assert found.summary == {**plain, "real_top1": 0.75, "real_count": 4}


def test_loose_images_have_sets_and_no_other_numbers(trained, cli, tmp_path):
    write_images(tmp_path / "digits", 5, (99, 99, 99), size=8)
    file = sets_for(trained, tmp_path / "digits", tmp_path / "sets.json")
    found = kcls.evaluate(trained, data=tmp_path / "digits", label_sets=file, out=tmp_path / "out")
    assert found.summary == {"count": 5, "real_top1": 0.75, "real_count": 4}
    assert found.per_class == [] and found.confusion is None
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"metrics.json", "predictions.npz"}
    assert kcls.Predictions.load(tmp_path / "out" / "predictions.npz").labels.tolist() == [-1] * 5
    done = cli("evaluate", trained.path, "--data", tmp_path / "digits", "--label-sets", file)
    assert done.code == 0 and done.out.startswith(f"{tmp_path}/digits: 5 images  real_top1 0.7500  real_count 4\n")
    assert "precision" not in done.out
    done = cli("evaluate", trained.path, "--data", tmp_path / "digits")
    assert done.code == 3 and "digits holds no folder" in done.err and "--label-sets" in done.err
