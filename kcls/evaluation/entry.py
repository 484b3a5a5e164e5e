"""The evaluation of a run on one of its splits."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kcls.artifact import KerasClassifier
from kcls.data.opening import check_not_trained_on, kept, open_data
from kcls.data.reading import reading
from kcls.data.stream import evaluation_stream
from kcls.errors import DataError, KclsError, RecipeError
from kcls.evaluation.metrics import confusion_matrix, cross_entropy, per_class, ranks
from kcls.evaluation.plots import plot_confusion
from kcls.files import replacing, write_json
from kcls.run import Run, finished_run


@dataclass(frozen=True)
class Evaluation:
    """Numbers of one run on one split.

    Attributes:
        summary: ``count``, ``loss`` (cross-entropy), ``top1``, ``top<k>``, ``macro_precision``, ``macro_recall``,
            ``macro_f1``; all but count and loss are fractions 0..1.
        per_class: ``class``, ``count``, ``precision``, ``recall``, ``f1`` of each class.
        confusion: counts (C, C), row is the true class.
        folder: where the files were written.
    """

    summary: dict[str, Any]
    per_class: list[dict[str, Any]]
    confusion: np.ndarray
    folder: Path


def evaluate(
    run: Run | str | Path | None = None, split: str = "test", *, top_k: int = 5, batch_size: int = 128
) -> Evaluation:
    """Evaluates a finished run and writes the results to ``evaluation/<split>/`` in its folder.

    Args:
        run: the run; None is the newest finished one.
        split: ``train``, ``val`` or ``test`` of its recipe, without augmentation.
        top_k: the second accuracy to report; with no more than ``top_k`` classes it is 1.
        batch_size: images at once.

    Raises:
        KclsError: no such run, or it is not finished.
        RecipeError: the recipe has no such split.
        DataError: the data has changed its classes, or not every image of the split was counted.
    """
    if top_k < 1 or batch_size < 1:
        raise RecipeError(f"top_k and batch_size must be 1 or more, not {top_k} and {batch_size}")
    run = finished_run(run)
    opened = open_data(run.recipe.data)
    data = opened.split(split)
    check_not_trained_on(opened, split, run.splits)
    if data.class_names != run.class_names:
        raise DataError(f"the classes of split {split!r} are no longer those of run {run.path} (its labels.txt)")
    classifier = KerasClassifier(run.model_file)
    stream = iter(evaluation_stream(kept(data, classifier.preprocess), classifier.preprocess, batch_size))
    logits, labels = [], []
    while (batch := reading(data, lambda: next(stream, None))) is not None:
        logits.append(classifier.logits(batch[0].numpy()))
        labels.append(batch[1].numpy())
    result = _measure(np.concatenate(logits), np.concatenate(labels), data.class_names, top_k)
    if result["summary"]["count"] != data.count:
        raise DataError(f"{result['summary']['count']} images were counted, but split {split!r} has {data.count}")
    evaluation = Evaluation(**result, folder=run.path / "evaluation" / split)
    _write(evaluation, data.class_names, f"{run.recipe.model.name} on {run.recipe.data.source}, {split}")
    return evaluation


def _measure(logits: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...], top_k: int) -> dict[str, Any]:
    classes = len(class_names)
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"labels run from {labels.min()} to {labels.max()}, but there are {classes} classes")
    if not np.isfinite(logits).all():
        raise KclsError("the model's answers are not all finite numbers: its weights are useless")
    places = ranks(logits, labels)
    summary: dict[str, Any] = {"count": len(labels), "loss": cross_entropy(logits, labels)}
    for k in sorted({1, top_k}):
        summary[f"top{k}"] = float((places < k).mean())
    confusion = confusion_matrix(logits.argmax(-1), labels, classes)
    rows = per_class(confusion, class_names)
    for name in ("precision", "recall", "f1"):
        summary[f"macro_{name}"] = float(np.mean([row[name] for row in rows]))
    return {"summary": summary, "per_class": rows, "confusion": confusion}


def _write(evaluation: Evaluation, class_names: tuple[str, ...], title: str) -> None:
    folder, summary = evaluation.folder, evaluation.summary
    write_json(folder / "metrics.json", {**summary, "per_class": evaluation.per_class})
    _write_csv(folder / "per_class.csv", [list(evaluation.per_class[0]), *(r.values() for r in evaluation.per_class)])
    header = ["true \\ predicted", *class_names]
    counts = evaluation.confusion.tolist()
    _write_csv(folder / "confusion.csv", [header, *([n, *row] for n, row in zip(class_names, counts, strict=True))])
    title = f"{title}: top-1 {summary['top1']:.2%} of {summary['count']:,}"
    plot_confusion(evaluation.confusion, class_names, title, folder / "confusion.png")


def _write_csv(path: Path, rows) -> None:
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
