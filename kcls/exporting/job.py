"""What an export works with, read once for all its files: of a run, or of weights and a folder of images."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kcls import labels
from kcls.artifact import KerasClassifier, open_keras, open_source
from kcls.data.folder import open_halves
from kcls.data.opening import open_data
from kcls.data.reading import reading
from kcls.data.source import Order, Source
from kcls.data.stream import examples
from kcls.errors import KclsError, RecipeError
from kcls.exporting.gate import open_held_out, predict_held_out
from kcls.predictions import Predictions
from kcls.run import Run
from kcls.sections import ExportSection
from kcls.weights.source import is_source

REPORT_NAME = "report.json"


@dataclass(frozen=True)
class Job:
    """What all files of an export share.

    Attributes:
        model: what is exported.
        folder: where the files go.
        options: what to write, and the limits of the gate.
        held_out: images for which each file is compared with the model.
        choosing: others, for which ``quantize: auto`` compares all that it tries; the same if there are no others.
        ranges: images that set the ranges of int8.
        order: in which these are taken.
    """

    model: KerasClassifier
    folder: Path
    options: ExportSection
    held_out: Source
    choosing: Source
    ranges: Source
    order: Order = None

    @cached_property
    def expected(self) -> Predictions:
        """The model's answers for the held-out images."""
        return predict_held_out(self.model, self.held_out)

    @cached_property
    def expected_choosing(self) -> Predictions:
        """The model's answers for the images to choose on."""
        return self.expected if self.choosing is self.held_out else predict_held_out(self.model, self.choosing)

    @cached_property
    def image(self):
        """One of the held-out images, for the latency: encoded bytes."""
        return next(iter(examples(self.held_out, lambda contents: contents)))[1]

    @cached_property
    def calibration(self) -> list[np.ndarray]:
        """Images as evaluation would see them, at most ``calibration_images``: uint8 (S, S, 3) each."""
        squares = examples(self.ranges, self.model.view, order=self.order).take(self.options.calibration_images)
        return reading(self.ranges, lambda: [square for _, square, _ in squares.as_numpy_iterator()], self.order)


def job_of_run(run: Run, options: ExportSection) -> Job:
    """The export of a finished run: training images, drawn with its seed, set the ranges.

    Raises:
        KclsError: the model is damaged.
        DataError: the images of the recipe are not there, or some that were trained on may be held out.
    """
    model, data = open_keras(run.model_file), open_data(run.recipe.data)
    held_out, order = open_held_out(data, run.splits), (run.recipe.train.seed, 0)
    choosing = open_held_out(data, run.splits, "val") if data.section.test else held_out
    return Job(model, run.path / "export", options, held_out, choosing, data.split("train"), order)


def job_of_weights(
    artifact: str | Path, calibration: str | Path | None, out: str | Path | None, options: ExportSection
) -> Job:
    """The export of a ``.keras`` file or of pretrained weights: half of a folder's images set the ranges.

    Args:
        artifact: the file or the source.
        calibration: the folder, see ``open_halves``.
        out: where the files go; None is a folder in the current one that is called as the model.
        options: what to write.

    Raises:
        RecipeError: no folder of images is named.
        KclsError: the artifact is of another kind, cannot be had or is damaged, or ``out`` holds something else.
        DataError: the folder is not there, or holds no two images.
    """
    source, file = is_source(str(artifact)), Path(artifact)
    if not source and not (file.suffix == ".keras" and file.is_file()):
        raise KclsError(f"{artifact} cannot be exported: it is no run, no .keras file and no source of weights")
    if not calibration:
        raise RecipeError(
            f"{artifact} brings no images: name a folder of some, `--calibration FOLDER` (in Python, calibration=...); "
            "half of them set the ranges of int8, and for the others each file is compared with the model"
        )
    model = open_source(str(artifact)) if source else open_keras(file)
    folder = Path(out or model.model.name)
    _check_folder(folder, model.class_names)
    ranges, held_out = open_halves(calibration, model.class_names, options.calibration_images)
    return Job(model, folder, options, held_out, ranges, ranges)


def _check_folder(folder: Path, class_names: tuple[str, ...]) -> None:
    """Raises a KclsError if there is something other than an earlier export of the same classes."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / REPORT_NAME).is_file():
        raise KclsError(f"{folder} exists and is of no earlier export (it has no {REPORT_NAME}); choose another --out")
    if labels.read(folder / labels.FILE_NAME) != class_names:
        raise KclsError(f"{folder} holds files of other classes; choose another --out")
