"""The evaluation of anything that classifies, on a split of a recipe or on a folder of labelled images."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kcls.artifact import open_artifact
from kcls.data.folder import open_labelled
from kcls.data.opening import check_not_trained_on, open_data
from kcls.data.source import Source
from kcls.errors import KclsError, RecipeError
from kcls.evaluation.label_sets import LabelSets, read_label_sets, summarize_sets
from kcls.evaluation.metrics import confusion_matrix, per_class, summarize
from kcls.evaluation.plots import plot_confusion
from kcls.files import replacing, write_json
from kcls.predictions import FILE_NAME, Predictions, predict_split
from kcls.recipe import Recipe, load_recipe
from kcls.run import Run, finished_run, is_run, run_around


@dataclass(frozen=True)
class Evaluation:
    """Numbers of one artifact on one split or folder.

    Attributes:
        predictions: what they were made from.
        summary: of all images, see ``metrics.summarize``; with label sets also ``label_sets.summarize_sets``.
        per_class: ``class``, ``count``, ``precision``, ``recall``, ``f1`` of each class; empty without labels.
        confusion: counts (C, C), row is the true class; None without labels.
        folder: where the files were written; None if none were.
        run: the run that the artifact is, or lies in; None if it is none's.
        origin: of the artifact's weights, see ``Classifier.origin``.
    """

    predictions: Predictions
    summary: dict[str, Any]
    per_class: list[dict[str, Any]]
    confusion: np.ndarray | None
    folder: Path | None
    run: Run | None
    origin: str


def evaluate(
    artifact: Run | str | Path | None = None,
    split: str | None = None,
    *,
    recipe: Recipe | str | Path | None = None,
    data: str | Path | None = None,
    label_sets: str | Path | None = None,
    out: str | Path | None = None,
    top_k: int = 5,
    batch_size: int = 128,
) -> Evaluation:
    """Evaluates a finished run, a ``.keras`` file, an exported file or pretrained weights, and writes the results.

    Of a run they go to ``evaluation/<split>/`` in its folder; of another file that lies in a run's folder, to
    ``evaluation/<split>/<the file's name without suffix>/`` there. With ``recipe`` or ``data`` nothing is written but
    to ``out``.

    Every call reads the images and runs the model. Predictions that a run has kept are not taken for the answer:
    that images have changed shows only in their pixels, and to read these is most of the work.

    Args:
        artifact: what to evaluate: whatever ``open_artifact`` takes; None is the newest finished run.
        split: ``train``, ``val`` or ``test`` of the recipe, without augmentation; None is ``test``.
        recipe: says which images: a recipe, or its path. None is that of the run that the artifact is or lies in.
            The ``recipe.yaml`` of a run is one, too; it brings the check that nothing it was trained on has moved.
        data: says which images, instead of a recipe: a folder ``<class>/<image>`` whose folders are called as classes
            of the artifact or, of ImageNet's, as their synsets. It may have fewer classes than the artifact.
        label_sets: a JSON file with several right classes for an image, see ``label_sets.read_label_sets``. The images
            of ``data`` may then lie in it without folders; only their sets are known then.
        out: a folder for the results, instead of the run's.
        top_k: the second accuracy to report; with no more than ``top_k`` classes it is 1.
        batch_size: images at once, for a model that takes more than one.

    Raises:
        KclsError: no such artifact, it is damaged, or is an unfinished run.
        RecipeError: the recipe has no such split, the artifact lies in no run and neither ``recipe`` nor ``data``
            says which images, or ``data`` and one of the others do.
        DataError: the data has other classes than the artifact, or not every image of the split was counted.
    """
    if top_k < 1 or batch_size < 1:
        raise RecipeError(f"top_k and batch_size must be 1 or more, not {top_k} and {batch_size}")
    if data and (recipe or split):
        raise RecipeError(f"data and {'recipe' if recipe else 'split'} exclude each other: both say which images")
    path, run = _find(artifact)
    classifier = open_artifact(path)
    source: Source
    if data:
        source, title = open_labelled(data, classifier.class_names, loose=bool(label_sets)), str(data)
    else:
        source, title = _open_split(split or "test", *_data_of(path, run, recipe))
    sets = read_label_sets(label_sets, source.names, source.class_names) if label_sets else None
    predictions = predict_split(classifier, source, batch_size=batch_size)
    folder = Path(out) if out else None if recipe or data or not run else _own_folder(run, path, source.role)
    evaluation = _measure(predictions, sets, top_k, folder=folder, run=run, origin=classifier.origin)
    name = run.recipe.model.name if run and path == run.path else path.name
    _write(evaluation, f"{name} on {title}")
    return evaluation


def _find(artifact: Run | str | Path | None) -> tuple[Path, Run | None]:
    """The path of an artifact, and the run that it is or lies in."""
    if artifact is None or isinstance(artifact, Run) or is_run(artifact):
        run = finished_run(artifact)
        return run.path, run
    path = Path(artifact)
    return path, run_around(path) if path.exists() else None  # a source lies nowhere


def _data_of(path: Path, run: Run | None, recipe: Recipe | str | Path | None) -> tuple[Recipe, dict[str, str]]:
    """The recipe that says which images, and the fingerprints of the splits that were trained on, where known."""
    if isinstance(recipe, Recipe):
        return recipe, {}
    if recipe:
        owner = Path(recipe).parent
        return load_recipe(recipe), Run(owner).splits if is_run(owner) else {}
    if run:
        return run.recipe, run.splits
    raise RecipeError(
        f"{path} lies in no run, so nothing says on which images to measure it: name a folder of labelled images, "
        "`--data FOLDER`, or a recipe, `--recipe recipe.yaml` or `--recipe RUN/recipe.yaml` (in Python, data=... or "
        "recipe=...)"
    )


def _open_split(split: str, recipe: Recipe, trained: dict[str, str]) -> tuple[Source, str]:
    """The images of a recipe's split, and what the picture calls them."""
    data = open_data(recipe.data)
    source = data.split(split)
    check_not_trained_on(data, split, trained)
    return source, f"{recipe.data.source}, {split}"


def _measure(predictions: Predictions, sets: LabelSets | None, top_k: int, **about: Any) -> Evaluation:
    """The numbers of predictions; ``about`` is the rest of the evaluation."""
    if not np.isfinite(predictions.logits).all():
        raise KclsError("the model's answers are not all finite numbers: its weights are useless")
    summary = summarize(predictions, top_k)
    if sets:
        summary |= summarize_sets(predictions.answers, sets)
    labelled = predictions.labelled
    rows, confusion = (per_class(predictions), confusion_matrix(predictions)) if labelled else ([], None)
    return Evaluation(predictions, summary, rows, confusion, **about)


def _own_folder(run: Run, path: Path, split: str) -> Path:
    folder = run.path / "evaluation" / split
    is_the_run = path.absolute() in (run.path.absolute(), run.model_file.absolute())
    return folder if is_the_run else folder / path.stem


def _write(evaluation: Evaluation, title: str) -> None:
    folder, summary, class_names = evaluation.folder, evaluation.summary, evaluation.predictions.class_names
    if folder is None:
        return
    evaluation.predictions.save(folder / FILE_NAME)
    write_json(folder / "metrics.json", {**summary, "per_class": evaluation.per_class})
    if evaluation.confusion is None:
        return
    _write_csv(folder / "per_class.csv", [list(evaluation.per_class[0]), *(r.values() for r in evaluation.per_class)])
    header = ["true \\ predicted", *class_names]
    counts = evaluation.confusion.tolist()
    _write_csv(folder / "confusion.csv", [header, *([n, *row] for n, row in zip(class_names, counts, strict=True))])
    title = f"{title}: top-1 {summary['top1']:.2%} of {summary['count']:,}"
    plot_confusion(evaluation.confusion, class_names, title, folder / "confusion.png")


def _write_csv(path: Path, rows) -> None:
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
