"""The export of a run: write each file under a temporary name, try it, and only then put it in its place."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kcls import labels
from kcls.artifact import KerasClassifier, open_keras
from kcls.data.opening import open_data
from kcls.data.reading import reading
from kcls.data.source import Data, Source
from kcls.data.stream import examples
from kcls.errors import KclsError, RecipeError, near
from kcls.exporting.gate import compare, latency_ms, open_held_out, predict_held_out
from kcls.files import replacing, write_json, write_text
from kcls.formats import FORMATS, QUANTIZATIONS, QUANTIZED, FormatName, QuantizationName
from kcls.predictions import Predictions
from kcls.run import Run, finished_run
from kcls.sections import ExportSection


def export(
    run: Run | str | Path | None = None,
    formats: Sequence[FormatName] | None = None,
    *,
    quantize: QuantizationName | Sequence[QuantizationName] | None = None,
    max_drop: float | None = None,
    min_agreement: float | None = None,
) -> list[dict[str, Any]]:
    """Exports a finished run to ``export/`` in its folder; a file that fails its gate is not kept.

    Args:
        run: the run; None is the newest finished one.
        formats: names of ``kcls.formats.FORMATS``; None is what the recipe states.
        quantize: of TFLite: ``none``, ``float16``, ``dynamic`` or ``int8``, or several, a file each; None is what the
            recipe states.
        max_drop: top-1, a fraction, that a quantized file may lose; None is what the recipe states, else 0.01.
        min_agreement: share of the images for which it must give the model's answer; None is what the recipe
            states, else 0.9.

    Returns:
        A report for each file: ``format``, ``path``, ``quantize``, ``size_bytes``, ``calibration_images`` where there
        are some, what ``gate.compare`` found, and ``latency_ms`` (median of one image, one thread for TFLite). They
        are written to ``export/report.json`` too.

    Raises:
        RecipeError: no formats, or an unknown one.
        KclsError: no such run, it is not finished, or the conversion failed.
        GateError: a file is not as good as the model.
    """
    run = finished_run(run)
    asked = (quantize,) if isinstance(quantize, str) else tuple(quantize or ())
    options = _options(run.recipe.export, tuple(formats or ()), asked, max_drop, min_agreement)
    model = open_keras(run.model_file)
    data = open_data(run.recipe.data)
    split = open_held_out(data, run.splits)
    job = _Job(run, options, model, data, split, predict_held_out(model, split))
    write_text(job.folder / labels.FILE_NAME, labels.to_text(run.class_names))
    reports = []
    for name, each in _files(options.formats, asked or (options.quantize,)):
        report = _export_file(job, name, each)
        reports.append(report)
        _add_report(job.folder / "report.json", report)
    return reports


def _files(
    formats: tuple[FormatName, ...], quantize: tuple[QuantizationName, ...]
) -> Iterator[tuple[FormatName, QuantizationName]]:
    """Format and quantization of each file, none of them twice."""
    for name in dict.fromkeys(formats):
        if name in QUANTIZED:
            yield from ((name, each) for each in dict.fromkeys(quantize))
        else:
            yield name, "none"


@dataclass(frozen=True)
class _Job:
    """What all files of an export share: the model and its answers for the held-out images are read once."""

    run: Run
    options: ExportSection
    model: KerasClassifier
    data: Data
    held_out: Source
    expected: Predictions

    @property
    def folder(self) -> Path:
        """Where the files go."""
        return self.run.path / "export"

    @cached_property
    def image(self):
        """One of the held-out images, for the latency: encoded bytes."""
        return next(iter(examples(self.held_out, lambda contents: contents)))[1]

    @cached_property
    def calibration(self) -> list[np.ndarray]:
        """Training images as evaluation would see them, drawn with the run's seed: uint8 (S, S, 3) each."""
        source, order = self.data.split("train"), (self.run.recipe.train.seed, 0)
        squares = examples(source, self.model.view, order=order).take(self.options.calibration_images)
        return reading(source, lambda: [square for _, square, _ in squares.as_numpy_iterator()], order)


def _options(
    stated: ExportSection | None,
    formats: tuple[str, ...],
    quantize: tuple[str, ...],
    max_drop: float | None,
    min_agreement: float | None,
) -> ExportSection:
    """What to do: what was asked for, then what the recipe states."""
    formats = formats or (stated.formats if stated else ())
    for kind, names, known in (("format", formats, FORMATS), ("quantize", quantize, QUANTIZATIONS)):
        for name in names:
            if name not in known:
                raise RecipeError(f"unknown {kind} {name!r}{near(name, known)}; known: {', '.join(known)}")
    if not formats:
        flags = " or ".join(format.flag for format in FORMATS.values())
        raise RecipeError(f"the recipe has no export section: say what to write, {flags}")
    base = stated or ExportSection(formats=formats)  # type: ignore[arg-type]
    can_quantize = bool(set(QUANTIZED) & set(formats))
    if quantize and not can_quantize:
        which, where = " and ".join(map(repr, quantize)), " or ".join(QUANTIZED)
        raise RecipeError(f"quantize {which} has no effect without format {where}")
    asked = {"max_drop": max_drop, "min_agreement": min_agreement}
    limits = {name: limit for name, limit in asked.items() if limit is not None}
    for name, limit in limits.items():
        if not 0 <= limit <= 1:
            raise RecipeError(f"{name} is a fraction from 0 to 1, not {limit}")
    if limits and not (can_quantize and set(quantize or (base.quantize,)) - {"none"}):
        raise RecipeError(
            f"{' and '.join(limits)} has no effect without a quantized {' or '.join(QUANTIZED)}: "
            "a float file must be exact"
        )
    return base.model_copy(update={"formats": formats, **limits})


def _export_file(job: _Job, name: FormatName, quantize: QuantizationName) -> dict[str, Any]:
    """Writes one file, compares it with the model and returns its report."""
    format, model, options = FORMATS[name], job.model, job.options
    path = job.folder / format.name_of(job.run.recipe.model.name, quantize)
    report: dict[str, Any] = {"format": name, "path": str(path), "quantize": quantize}
    chosen: dict[str, Any] = {}
    if format.quantizations:
        calibration = job.calibration if format.quantizations[quantize].calibrated else []
        chosen = {"quantize": quantize, "calibration": calibration}
    with _writing(path) as temporary:
        format.write(model.model, model.class_names, model.preprocess, temporary, **chosen)
        file = format.open(temporary, **format.alone)
        limits = None if quantize == "none" else (options.max_drop, options.min_agreement)
        found = compare(predict_held_out(file, job.held_out), job.expected, job.held_out.role, limits)
        report["size_bytes"] = _size(temporary)
    if chosen.get("calibration"):
        report["calibration_images"] = len(chosen["calibration"])
    return {**report, **found, "latency_ms": latency_ms(file, job.image)}


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """``replacing``, with TensorFlow's errors for a disk that cannot be written told as kcls tells them."""
    try:
        with replacing(path) as temporary:
            yield temporary
    except tf.errors.OpError as error:
        raise KclsError(f"cannot write {path}: {error.message}") from None


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _add_report(path: Path, report: dict[str, Any]) -> None:
    """Puts a file's report in the place of its last one; its path is from the report's folder, which may move."""
    report = {**report, "path": Path(report["path"]).name}
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    write_json(path, [row for row in rows if row["path"] != report["path"]] + [report])
