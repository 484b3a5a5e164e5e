"""Numbers one can trust: every image counted once, ties not in the model's favour."""

import csv
import json
import shutil

import numpy as np
import pytest

import kcls
from kcls.artifact import KerasClassifier, SquareClassifier
from kcls.data.opening import open_data
from kcls.data.preprocess import Preprocess
from kcls.data.source import Data
from kcls.errors import DataError, KclsError, RecipeError
from kcls.evaluation.metrics import confusion_matrix, cross_entropy, per_class, ranks
from kcls.evaluation.plots import plot_confusion
from kcls.predictions import Predictions, predict_split


def predictions(logits, labels) -> Predictions:
    logits = np.asarray(logits)
    names = tuple(f"test/{i}" for i in range(len(logits)))
    return Predictions(logits, np.asarray(labels), names, tuple("abcdefghij"[: logits.shape[1]]))


LOGITS = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0], [1.0, 2.0, 9.0], [4.0, 0.0, 1.0]])
LABELS = np.array([0, 2, 2, 1])
FOUR = predictions(LOGITS, LABELS)


def test_ranks_count_the_classes_in_front():
    assert ranks(FOUR).tolist() == [0, 1, 0, 2]


def test_a_model_that_says_the_same_for_everything_is_not_always_right():
    assert ranks(predictions(np.zeros((3, 3)), [0, 1, 2])).tolist() == [0, 1, 2]


def test_cross_entropy_is_minus_log_of_the_labels_probability():
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    expected = -np.log(probabilities[np.arange(4), LABELS]).mean()
    assert cross_entropy(FOUR) == pytest.approx(expected)
    assert cross_entropy(predictions(LOGITS + 1e4, LABELS)) == pytest.approx(expected)  # no overflow


def test_confusion_and_the_numbers_of_each_class():
    assert confusion_matrix(FOUR).tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]
    rows = per_class(FOUR)
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
    assert summary["top5"] == pytest.approx((ranks(predictions(logits, labels)) < 5).mean())
    assert np.trace(evaluation.confusion) == round(summary["top1"] * 90)

    folder = evaluation.folder
    assert folder == trained.path / "evaluation" / "test"
    assert json.loads((folder / "metrics.json").read_text())["loss"] == summary["loss"]
    rows = list(csv.reader((folder / "confusion.csv").open()))
    assert rows[0][1:] == list(names) and [row[0] for row in rows[1:]] == list(names)
    assert np.array([row[1:] for row in rows[1:]], int).tolist() == evaluation.confusion.tolist()
    assert len(list(csv.DictReader((folder / "per_class.csv").open()))) == 10
    assert (folder / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_the_predictions_that_are_saved_are_those_returned(trained):
    evaluation = kcls.evaluate(trained)
    saved, returned = kcls.Predictions.load(evaluation.folder / "predictions.npz"), evaluation.predictions
    assert (saved.logits == returned.logits).all() and saved.logits.dtype == np.float32
    assert (saved.labels == returned.labels).all()
    assert saved.names == returned.names and saved.names[0].startswith("digits-test.tfrecord")
    assert saved.class_names == returned.class_names == trained.class_names


def test_predictions_that_are_damaged_or_do_not_fit_are_refused(tmp_path):
    FOUR.save(tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    for name, contents in (("half", whole[: len(whole) // 2]), ("text", b"no numbers"), ("empty", b"")):
        (tmp_path / name).write_bytes(contents)
        with pytest.raises(KclsError, match=f"{name} holds no predictions"):
            Predictions.load(tmp_path / name)
    with pytest.raises(KclsError, match="none.npz: No such file"):
        Predictions.load(tmp_path / "none.npz")
    with pytest.raises(KclsError, match=r"4 images of 3 classes need logits \(4, 3\) and labels \(4,\), not \(4, 2\)"):
        Predictions(LOGITS[:, :2], LABELS, FOUR.names, FOUR.class_names)


def test_a_folders_images_are_named_by_their_paths_in_it(folder_recipe, flat_folder):
    data = kcls.load_recipe(folder_recipe).data
    found = predict_split(Red(), open_data(data).split("test"))
    assert len(set(found.names)) == 20
    for name, label in zip(found.names, found.labels, strict=True):
        assert (flat_folder / name).is_file() and name.split("/")[0] == found.class_names[label]
    assert (found.top1, found.answers[-10:].tolist()) == (0.7, [2] * 10)  # 4 blue and 10 red of 20


class Red(SquareClassifier):
    """Knows what red is and gives probabilities only."""

    class_names = ("blue", "green", "red")
    preprocess = Preprocess(4)

    def probabilities(self, prepared):
        red = np.asarray(prepared)[..., 0].mean((1, 2)) > 128
        return np.where(red[:, np.newaxis], (0, 0, 1), (1, 0, 0)).astype(np.float32)


def test_a_probability_of_0_has_a_finite_loss():
    assert np.isfinite(Red().logits(np.zeros((1, 4, 4, 3)))).all()
    one = predictions(Red().logits(np.zeros((1, 4, 4, 3))), [2])
    assert cross_entropy(one) == pytest.approx(-np.log(np.finfo(np.float32).tiny))


def test_other_classes_than_the_models_are_refused_and_named(trained, folder_recipe, tmp_path):
    with pytest.raises(DataError, match=r"'test' are not those of the model: it lacks 0, .*9 and it has also blue, gr"):
        kcls.evaluate(trained, recipe=folder_recipe)

    class Reversed(Red):
        class_names = Red.class_names[::-1]

    with pytest.raises(DataError, match="not those of the model: their order differs"):
        predict_split(Reversed(), open_data(kcls.load_recipe(folder_recipe).data).split("test"))


def test_a_file_that_lies_in_no_run_asks_for_a_recipe_and_writes_only_where_it_is_told(trained, tmp_path):
    moved = shutil.copy(trained.model_file, tmp_path / "mine.keras")
    with pytest.raises(RecipeError, match=r"mine\.keras lies in no run, .*`--recipe recipe\.yaml`"):
        kcls.evaluate(moved)
    summary = kcls.evaluate(trained).summary
    alone = kcls.evaluate(moved, recipe=trained.recipe_file)
    assert alone.summary == summary and alone.folder is None and alone.run is None
    assert list(tmp_path.iterdir()) == [moved]
    told = kcls.evaluate(moved, recipe=trained.recipe, out=tmp_path / "out")
    assert json.loads((told.folder / "metrics.json").read_text())["top1"] == summary["top1"]


def test_a_class_name_is_drawn_as_it_is(tmp_path):
    plot_confusion(np.eye(2, dtype=int), ("US$1_$", "a_b$"), "100 $ on_x$", tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").is_file()


def test_the_validation_of_the_training_is_the_evaluation(trained):
    best = max((row for row in trained.history() if row["best"]), key=lambda row: row["epoch"])
    summary = kcls.evaluate(trained, "val").summary
    assert summary["top1"] == pytest.approx(best["val_top1"], abs=1e-6)
    assert summary["loss"] == pytest.approx(best["val_loss"], rel=1e-5)


def test_a_count_that_is_not_the_splits_is_an_error(trained, monkeypatch):
    split = open_data(trained.recipe.data).split("test")
    whole = split.tickets
    monkeypatch.setattr(split, "tickets", lambda *arguments: whole(*arguments).skip(33))
    monkeypatch.setattr(Data, "split", lambda self, role: split)
    with pytest.raises(DataError, match="57 images were counted, but split 'test' has 90"):
        kcls.evaluate(trained)


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
        kcls.evaluate(run.model_file, recipe=run.recipe_file)
    with pytest.raises(DataError, match="'test' may hold images that were trained on"):
        kcls.export(run, ["tflite"])
    (run.path / "model.keras").unlink()
    with pytest.raises(DataError, match="images of split 'train' are not those of the training any more"):
        kcls.train(resume=True, out=run.path)


def test_what_cannot_be_evaluated_is_told(trained, tmp_path):
    with pytest.raises(KclsError, match="is not an artifact"):
        kcls.evaluate(tmp_path)
    with pytest.raises(RecipeError, match="states no split 'tset'"):
        kcls.evaluate(trained, "tset")
    with pytest.raises(RecipeError, match="must be 1 or more, not 0"):
        kcls.evaluate(trained, top_k=0)
