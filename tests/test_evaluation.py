"""Numbers one can trust: every image counted once, ties not in the model's favour."""

import csv
import json
import shutil

import numpy as np
import pytest

import kcls
from kcls.artifact import KerasClassifier
from kcls.errors import DataError, KclsError, RecipeError
from kcls.evaluation.metrics import confusion_matrix, cross_entropy, per_class, ranks
from kcls.evaluation.plots import plot_confusion

LOGITS = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0], [1.0, 2.0, 9.0], [4.0, 0.0, 1.0]])
LABELS = np.array([0, 2, 2, 1])


def test_ranks_count_the_classes_in_front():
    assert ranks(LOGITS, LABELS).tolist() == [0, 1, 0, 2]


def test_a_model_that_says_the_same_for_everything_is_not_always_right():
    assert ranks(np.zeros((3, 3)), np.array([0, 1, 2])).tolist() == [0, 1, 2]


def test_cross_entropy_is_minus_log_of_the_labels_probability():
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    expected = -np.log(probabilities[np.arange(4), LABELS]).mean()
    assert cross_entropy(LOGITS, LABELS) == pytest.approx(expected)
    assert cross_entropy(LOGITS + 1e4, LABELS) == pytest.approx(expected)  # no overflow


def test_confusion_and_the_numbers_of_each_class():
    confusion = confusion_matrix(LOGITS.argmax(-1), LABELS, 3)
    assert confusion.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]
    rows = per_class(confusion, ("a", "b", "c"))
    assert rows[0] == {"class": "a", "count": 1, "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3)}
    assert rows[1] == {"class": "b", "count": 1, "precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert rows[2] == {"class": "c", "count": 2, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)}


def test_an_evaluation_agrees_with_the_model_and_its_own_files(trained):
    evaluation = kcls.evaluate(trained, batch_size=33)
    data, names = kcls.load_data(trained.recipe, "test")
    model = __import__("keras").models.load_model(trained.model_file)
    images, labels = (np.concatenate(parts) for parts in zip(*((x.numpy(), y.numpy()) for x, y in data), strict=True))
    logits = model.predict(images, verbose=0)
    summary = evaluation.summary
    assert summary["count"] == len(labels) == 90
    assert summary["top1"] == pytest.approx((logits.argmax(-1) == labels).mean())
    assert summary["top5"] == pytest.approx((ranks(logits, labels) < 5).mean())
    assert np.trace(evaluation.confusion) == round(summary["top1"] * 90)

    folder = trained.path / "evaluation" / "test"
    assert json.loads((folder / "metrics.json").read_text())["loss"] == summary["loss"]
    rows = list(csv.reader((folder / "confusion.csv").open()))
    assert rows[0][1:] == list(names) and [row[0] for row in rows[1:]] == list(names)
    assert np.array([row[1:] for row in rows[1:]], int).tolist() == evaluation.confusion.tolist()
    assert len(list(csv.DictReader((folder / "per_class.csv").open()))) == 10
    assert (folder / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_a_class_name_is_drawn_as_it_is(tmp_path):
    plot_confusion(np.eye(2, dtype=int), ("US$1_$", "a_b$"), "100 $ on_x$", tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").is_file()


def test_the_validation_of_the_training_is_the_evaluation(trained):
    best = max((row for row in trained.history() if row["best"]), key=lambda row: row["epoch"])
    summary = kcls.evaluate(trained, "val").summary
    assert summary["top1"] == pytest.approx(best["val_top1"], abs=1e-6)
    assert summary["loss"] == pytest.approx(best["val_loss"], rel=1e-5)


def test_a_count_that_is_not_the_splits_is_an_error(trained, monkeypatch):
    from kcls.evaluation import entry

    whole = entry.evaluation_stream
    monkeypatch.setattr(entry, "evaluation_stream", lambda *arguments: whole(*arguments).skip(1))
    with pytest.raises(DataError, match="57 images were counted, but split 'test' has 90"):
        kcls.evaluate(trained, batch_size=33)


def test_the_top_k_that_was_asked_for_is_always_there(trained):
    assert kcls.evaluate(trained, top_k=10).summary["top10"] == 1
    assert "top3" in kcls.evaluate(trained, top_k=3).summary


def test_answers_that_are_no_numbers_are_an_error_not_a_score(trained, monkeypatch):
    monkeypatch.setattr(KerasClassifier, "logits", lambda self, squares: np.full((len(squares), 10), np.nan))
    with pytest.raises(KclsError, match="not all finite numbers"):
        kcls.evaluate(trained)


def test_a_slice_of_a_folder_that_has_changed_is_refused(folder_recipe, flat_folder, tmp_path):
    run = kcls.train(folder_recipe, out=tmp_path / "run")
    assert kcls.evaluate(run).summary["count"] == 20
    shutil.copy(flat_folder / "red" / "000.png", flat_folder / "red" / "new.png")
    with pytest.raises(DataError, match="'test' may hold images that were trained on"):
        kcls.evaluate(run)
    with pytest.raises(DataError, match="'test' may hold images that were trained on"):
        kcls.export(run, ["tflite"])
    (run.path / "model.keras").unlink()
    with pytest.raises(DataError, match="images of split 'train' are not those of the training any more"):
        kcls.train(resume=True, out=run.path)


def test_what_cannot_be_evaluated_is_told(trained, tmp_path):
    with pytest.raises(KclsError, match="is not a run: it has no recipe.yaml and labels.txt"):
        kcls.evaluate(tmp_path)
    with pytest.raises(RecipeError, match="states no split 'tset'"):
        kcls.evaluate(trained, "tset")
    with pytest.raises(RecipeError, match="must be 1 or more, not 0"):
        kcls.evaluate(trained, top_k=0)
