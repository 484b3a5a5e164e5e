"""The export: write each file under a temporary name, try it, and only then put it in its place."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from kcls import labels
from kcls.errors import KclsError, RecipeError, near
from kcls.exporting.auto import Choice, choose
from kcls.exporting.gate import check_cost, compare, latency_ms, predict_held_out
from kcls.exporting.job import REPORT_NAME, Job, job_of_run, job_of_weights
from kcls.files import replacing, size_of, write_json, write_text
from kcls.formats import FORMATS, QUANTIZATIONS, QUANTIZED, FormatName, QuantizeName
from kcls.quantization import is_quantization_aware
from kcls.run import Run, finished_run, is_run
from kcls.section import size_in_bytes
from kcls.sections import ExportSection
from kcls.weights.digest import weights_sha256


def export(
    artifact: Run | str | Path | None = None,
    formats: Sequence[FormatName] | None = None,
    *,
    quantize: QuantizeName | Sequence[QuantizeName] | None = None,
    max_drop: float | None = None,
    min_agreement: float | None = None,
    max_size: int | str | None = None,
    max_latency_ms: float | None = None,
    calibration: str | Path | None = None,
    out: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Exports a finished run, a ``.keras`` file or pretrained weights; a file that fails its gate is not kept.

    Args:
        artifact: the run, whose files go to ``export/`` in its folder, the file, or a source (see
            ``kcls.load_model``); None is the newest finished run.
        formats: names of ``kcls.formats.FORMATS``; None is what the run's recipe states.
        quantize: of TFLite: a name of ``kcls.formats.QUANTIZATIONS`` (see ``kcls.exporting.tflite.make_tflite``), or
            several, a file each; ``auto`` chooses one that is within the limits, see ``auto.choose``; None is what
            the recipe states.
        max_drop: top-1, a fraction, that a quantized file may lose; None is what the recipe states, else 0.01.
        min_agreement: share of the images for which it must give the model's answer; None is what the recipe
            states, else 0.9.
        max_size: that a TFLite file may have, ``4MB``, ``300KiB`` or a number of bytes; None is what the recipe
            states, else any.
        max_latency_ms: milliseconds that an image may take with a TFLite file on one thread of this machine; None is
            what the recipe states, else any.
        calibration: of anything but a run: a folder of images, with or without folders in it. Half of them, 256 at
            most, set the ranges of int8; for the others, 2,000 at most, each file is compared with the model. They
            have no labels, so ``max_drop`` is refused.
        out: of anything but a run: where the files go; None is a folder with the model's name in the current one.

    Returns:
        A report for each file: ``format``, ``path``, ``quantize``, ``weights_sha256`` of the model, ``origin``
        of weights of another library, ``size_bytes``, ``calibration_images`` where there are some, what
        ``gate.compare`` found, and ``latency_ms`` (median of one image, one thread for TFLite); of ``auto`` also
        ``tried`` and ``advice``, of a file with sensitive layers in float ``layers_in_float``. They are written to
        ``report.json`` beside the files, too.

    Raises:
        RecipeError: no formats, or an unknown one; ``calibration`` is missing, or an option would have no effect.
        KclsError: no such artifact, a run is not finished, ``out`` holds something else, or the conversion failed.
        DataError: the images cannot be used.
        GateError: a file is not as good as the model.
    """
    asked = (quantize,) if isinstance(quantize, str) else tuple(quantize or ())
    limits = dict(max_drop=max_drop, min_agreement=min_agreement, max_size=max_size, max_latency_ms=max_latency_ms)
    wishes = tuple(formats or ()), asked, {name: limit for name, limit in limits.items() if limit is not None}
    job = _job(artifact, wishes, calibration, out)
    if "auto" in (*asked, job.options.quantize) and is_quantization_aware(job.model.model):
        raise RecipeError(f"{job.model.model.name} is quantization-aware: its file is the one that it was made for")
    choices = [choose(job) if each == "auto" else Choice(each) for each in asked or (job.options.quantize,)]
    return [_export_file(job, name, choice) for name, choice in _files(job.options.formats, choices)]


def _job(artifact: Run | str | Path | None, wishes: tuple, calibration, out) -> Job:
    """What is exported, how and where; ``wishes`` are the last arguments of ``_options``."""
    if artifact is None or isinstance(artifact, Run) or is_run(artifact):
        if calibration or out:
            raise RecipeError("calibration and out are not for a run: its recipe says which images, and it has a place")
        run = finished_run(artifact)
        return job_of_run(run, _options(run.recipe.export, *wishes))
    if "max_drop" in wishes[-1]:
        raise RecipeError("max_drop has no effect on images without labels; min_agreement is the limit there")
    return job_of_weights(artifact, calibration, out, _options(None, *wishes))


def _files(formats: tuple[FormatName, ...], choices: list[Choice]) -> Iterator[tuple[FormatName, Choice]]:
    """Format and quantization of each file, none of them twice."""
    for name in dict.fromkeys(formats):
        if name in QUANTIZED:
            yield from ((name, choice) for choice in {choice.quantize: choice for choice in choices}.values())
        else:
            yield name, Choice("none")


def _options(
    stated: ExportSection | None, formats: tuple[str, ...], quantize: tuple[str, ...], limits: dict[str, Any]
) -> ExportSection:
    """What to do: what was asked for, then what the recipe states."""
    formats = formats or (stated.formats if stated else ())
    known_quantize = [*QUANTIZATIONS, "auto"]
    for kind, names, known in (("format", formats, FORMATS), ("quantize", quantize, known_quantize)):
        for name in names:
            if name not in known:
                raise RecipeError(f"unknown {kind} {name!r}{near(name, known)}; known: {', '.join(known)}")
    if not formats:
        flags = " or ".join(format.flag for format in FORMATS.values())
        raise RecipeError(f"no export section of a recipe says what to write: name it, {flags}")
    base = stated or ExportSection(formats=formats)  # type: ignore[arg-type]
    can_quantize = bool(set(QUANTIZED) & set(formats))
    if quantize and not can_quantize:
        which, where = " and ".join(map(repr, quantize)), " or ".join(QUANTIZED)
        raise RecipeError(f"quantize {which} has no effect without format {where}")
    if "max_size" in limits:
        try:
            limits = {**limits, "max_size": size_in_bytes(limits["max_size"])}
        except ValueError as error:
            raise RecipeError(f"max_size: {error}") from None
    _check_limits(limits, can_quantize, set(quantize or (base.quantize,)))
    return base.model_copy(update={"formats": formats, **limits})


def _check_limits(limits: dict[str, Any], can_quantize: bool, quantize: set[str]) -> None:
    """Raises a RecipeError if a limit makes no sense, or would have no effect."""
    for name in ("max_drop", "min_agreement"):
        if not 0 <= limits.get(name, 0) <= 1:
            raise RecipeError(f"{name} is a fraction from 0 to 1, not {limits[name]}")
    if not limits.get("max_latency_ms", 1) > 0:
        raise RecipeError(f"max_latency_ms must be above 0, not {limits['max_latency_ms']}")
    of_quantized = [name for name in limits if name in ("max_drop", "min_agreement")]
    if of_quantized and not (can_quantize and quantize - {"none"}):
        raise RecipeError(
            f"{' and '.join(of_quantized)} has no effect without a quantized {' or '.join(QUANTIZED)}: "
            "a float file must be exact"
        )
    if limits and not can_quantize:
        raise RecipeError(f"{' and '.join(limits)} has no effect without format {' or '.join(QUANTIZED)}")


def _export_file(job: Job, name: FormatName, choice: Choice) -> dict[str, Any]:
    """Writes one file, compares it with the model, and writes and returns its report."""
    format, model, options, quantize = FORMATS[name], job.model, job.options, choice.quantize
    expected = job.expected  # first, so that images that cannot be read are told before the work
    path = job.folder / format.name_of(model.model.name, quantize)
    report: dict[str, Any] = {"format": name, "path": str(path), "quantize": quantize}
    report["weights_sha256"] = weights_sha256(model.model)
    if model.origin:
        report["origin"] = model.origin
    chosen: dict[str, Any] = {}
    if format.quantizations:
        calibrated = format.quantizations[quantize].calibrated and not is_quantization_aware(model.model)
        calibration = job.calibration if calibrated else []  # a quantization-aware model has learnt its ranges
        chosen = {"quantize": quantize, "calibration": calibration, "in_float": choice.in_float}
    with _writing(path) as temporary:
        format.write(model.model, model.class_names, model.preprocess, temporary, **chosen)
        file = format.open(temporary, **format.alone)
        limits = None if quantize == "none" else (options.max_drop, options.min_agreement)
        surely = bool(choice.report) and job.choosing is not job.held_out
        found = compare(predict_held_out(file, job.held_out), expected, job.held_out.role, limits, surely)
        report |= {"size_bytes": size_of(temporary), "latency_ms": latency_ms(file, job.image)}
        if format.quantizations:
            check_cost(report, options.max_size, options.max_latency_ms)
    if chosen.get("calibration"):
        report["calibration_images"] = len(chosen["calibration"])
    if choice.in_float:
        report["layers_in_float"] = len(choice.in_float)
    report |= {**found, **choice.report}
    write_text(job.folder / labels.FILE_NAME, labels.to_text(model.class_names))
    _add_report(job.folder / REPORT_NAME, report)
    return report


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """``replacing``, with TensorFlow's errors for a disk that cannot be written told as kcls tells them."""
    try:
        with replacing(path) as temporary:
            yield temporary
    except tf.errors.OpError as error:
        raise KclsError(f"cannot write {path}: {error.message}") from None


def _add_report(path: Path, report: dict[str, Any]) -> None:
    """Puts a file's report in the place of its last one; its path is from the report's folder, which may move."""
    report = {**report, "path": Path(report["path"]).name}
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    write_json(path, [row for row in rows if row["path"] != report["path"]] + [report])
