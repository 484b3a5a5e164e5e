"""The export of a run: write each file under a temporary name, try it, and only then put it in its place."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from kcls import labels
from kcls.artifact import KerasClassifier, SavedModelClassifier, TFLiteClassifier
from kcls.data.opening import open_data
from kcls.data.reading import reading
from kcls.data.source import Data, Source
from kcls.data.stream import examples
from kcls.errors import KclsError, RecipeError, near
from kcls.exporting.gate import HeldOut, inspect
from kcls.exporting.saved_model import write_saved_model
from kcls.exporting.tflite import make_tflite
from kcls.files import replacing, write_json, write_text
from kcls.run import Run, finished_run
from kcls.sections import ExportSection

Quantize = Literal["none", "float16", "dynamic", "int8"]
_FILE_NAMES = {"none": "float32", "float16": "float16", "dynamic": "dynamic_int8", "int8": "int8"}


def export(
    run: Run | str | Path | None = None,
    formats: Sequence[str] | None = None,
    *,
    quantize: Quantize | None = None,
    max_drop: float | None = None,
    min_agreement: float | None = None,
) -> list[dict[str, Any]]:
    """Exports a finished run to ``export/`` in its folder; a file that fails its gate is not kept.

    Args:
        run: the run; None is the newest finished one.
        formats: ``saved_model``, ``tflite`` or both; None is what the recipe states.
        quantize: of TFLite: ``none``, ``float16``, ``dynamic`` or ``int8``; None is what the recipe states.
        max_drop: top-1, a fraction, that a quantized file may lose; None is what the recipe states, else 0.01.
        min_agreement: share of the images for which it must give the model's answer; None is what the recipe
            states, else 0.9.

    Returns:
        A report for each file: ``format``, ``path``, ``quantize``, ``size_bytes`` and what ``inspect`` found. They
        are written to ``export/report.json`` too.

    Raises:
        RecipeError: no formats, or an unknown one.
        KclsError: no such run, it is not finished, or the conversion failed.
        GateError: a file is not as good as the model.
    """
    run = finished_run(run)
    recipe = run.recipe
    options = _options(recipe.export, formats, quantize, max_drop, min_agreement)
    classifier = KerasClassifier(run.model_file)
    data = open_data(recipe.data)
    held_out = HeldOut(data, run.splits, classifier)
    folder = run.path / "export"
    write_text(folder / labels.FILE_NAME, labels.to_text(run.class_names))
    reports = []
    for format in dict.fromkeys(options.formats):
        if format == "saved_model":
            report = _saved_model(classifier, folder / "saved_model", held_out)
        else:
            name = f"{recipe.model.name}_{_FILE_NAMES[options.quantize]}.tflite"
            report = _tflite(classifier, folder / name, data, recipe.train.seed, options, held_out)
        reports.append(report)
        _add_report(folder / "report.json", report)
    return reports


def _options(
    stated: ExportSection | None,
    formats: Sequence[str] | None,
    quantize: str | None,
    max_drop: float | None,
    min_agreement: float | None,
) -> ExportSection:
    """What to do: what was asked for, then what the recipe states."""
    formats = tuple(formats or (stated.formats if stated else ()))
    known = ("saved_model", "tflite")
    for format in formats:
        if format not in known:
            raise RecipeError(f"unknown format {format!r}{near(format, known)}; known: {', '.join(known)}")
    if not formats:
        raise RecipeError("the recipe has no export section: say what to write, --saved-model, --tflite or both")
    if quantize is not None and quantize not in _FILE_NAMES:
        raise RecipeError(
            f"unknown quantize {quantize!r}{near(quantize, _FILE_NAMES)}; known: {', '.join(_FILE_NAMES)}"
        )
    if quantize is not None and "tflite" not in formats:
        raise RecipeError(f"quantize {quantize!r} has no effect without format tflite")
    asked = {"max_drop": max_drop, "min_agreement": min_agreement}
    limits = {name: limit for name, limit in asked.items() if limit is not None}
    for name, limit in limits.items():
        if not 0 <= limit <= 1:
            raise RecipeError(f"{name} is a fraction from 0 to 1, not {limit}")
    base = stated or ExportSection(formats=formats)  # type: ignore[arg-type]
    quantize = quantize or base.quantize
    if limits and (quantize == "none" or "tflite" not in formats):
        raise RecipeError(
            f"{' and '.join(limits)} has no effect without a quantized tflite: a float file must be exact"
        )
    return base.model_copy(update={"formats": formats, "quantize": quantize, **limits})


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """``replacing``, with TensorFlow's errors for a disk that cannot be written told as kcls tells them."""
    try:
        with replacing(path) as temporary:
            yield temporary
    except tf.errors.OpError as error:
        raise KclsError(f"cannot write {path}: {error.message}") from None


def _saved_model(classifier: KerasClassifier, path: Path, held_out: HeldOut) -> dict[str, Any]:
    with _writing(path) as temporary:
        write_saved_model(classifier.model, classifier.class_names, classifier.preprocess, temporary)
        found = inspect(SavedModelClassifier(temporary), held_out)
        size = sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file())
    return {"format": "saved_model", "path": str(path), "quantize": "none", "size_bytes": size, **found}


def _tflite(
    classifier: KerasClassifier, path: Path, data: Data, seed: int, options: ExportSection, held_out: HeldOut
) -> dict[str, Any]:
    calibration = []
    if options.quantize == "int8":
        calibration = list(_calibration(data.split("train"), classifier, seed, options.calibration_images))
    with _writing(path) as temporary:
        contents = make_tflite(
            classifier.model, classifier.class_names, classifier.preprocess, options.quantize, calibration
        )
        temporary.write_bytes(contents)
        limits = None if options.quantize == "none" else (options.max_drop, options.min_agreement)
        found = inspect(TFLiteClassifier(temporary, threads=1), held_out, limits)
    report = {
        "format": "tflite",
        "path": str(path),
        "quantize": options.quantize,
        "size_bytes": len(contents),
    }
    if calibration:
        report["calibration_images"] = len(calibration)
    return {**report, **found}


def _calibration(source: Source, classifier: KerasClassifier, seed: int, count: int) -> Iterator[np.ndarray]:
    """Training images as evaluation would see them, drawn with the run's seed."""
    stream = iter(examples(source, classifier.preprocess.view, order=(seed, 0)).take(count))
    while (example := reading(source, lambda: next(stream, None))) is not None:
        yield example[0].numpy()


def _add_report(path: Path, report: dict[str, Any]) -> None:
    """Puts a file's report in the place of its last one; its path is from the report's folder, which may move."""
    report = {**report, "path": Path(report["path"]).name}
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    write_json(path, [row for row in rows if row["path"] != report["path"]] + [report])
