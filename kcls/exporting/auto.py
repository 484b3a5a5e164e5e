"""``quantize: auto``: of the smallest kind of file that is as good as was asked for, the fastest."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kcls.errors import GateError, KclsError
from kcls.exporting.gate import check_cost, check_limits, differences, latency_ms, predict_held_out
from kcls.exporting.job import Job
from kcls.exporting.sensitivity import measure_sensitivity, write_sensitivity
from kcls.files import size_of
from kcls.formats import FORMATS, QuantizationName
from kcls.quantization import can_be_aware

KINDS: tuple[tuple[QuantizationName, ...], ...] = (("int8", "mixed", "dynamic"), ("float16",), ("none",))
"""Quantizations of 8, 16 and 32 bits a weight: files of one kind are about as large as each other."""

AWARE: dict[QuantizationName, str] = {"int8": "true", "mixed": "mixed"}
"""What a network can be trained for, as a recipe says it."""


@dataclass(frozen=True)
class Trial:
    """One way of quantizing and what came of it.

    Attributes:
        quantize: its name.
        in_float: the layers that stay in float, see ``conversion.Mixed``.
        found: size, latency and what the gate's comparison found.
        refused: why it is not good enough; None if it is.
    """

    quantize: QuantizationName
    in_float: tuple[str, ...]
    found: dict[str, Any]
    refused: str | None

    def row(self) -> dict[str, Any]:
        """What a report says of it."""
        kept = {"layers_in_float": len(self.in_float)} if self.in_float else {}
        return {"quantize": self.quantize, **kept, **self.found, "refused": self.refused}


@dataclass(frozen=True)
class Choice:
    """The chosen way, or the only one.

    Attributes:
        quantize: its name.
        in_float: the layers that stay in float, see ``conversion.Mixed``.
        report: what was tried, and advice; nothing if there was no choice.
    """

    quantize: QuantizationName
    in_float: tuple[str, ...] = ()
    report: dict[str, Any] = field(default_factory=dict)


def choose(job: Job) -> Choice:
    """Tries the ways of quantizing from the smallest kind on, on ``job.choosing``.

    If no file of 8 bits is good enough, the layers that matter most are kept in float, more and more of them, up to
    half.

    Raises:
        GateError: nothing is good enough.
    """
    trials: list[Trial] = []
    for kind in KINDS:
        trials += [_try(job, quantize) for quantize in kind]
        if kind is KINDS[0] and not _good(trials) and _answers_otherwise(trials, "mixed"):
            trials += _with_layers_in_float(job)
        if good := _good(trials):
            best = min(good, key=lambda trial: trial.found["latency_ms"])
            return Choice(best.quantize, best.in_float, _report(job, trials))
    tried = "".join(f"\n  {trial.quantize}: {trial.refused}" for trial in trials)
    raise GateError(f"nothing is as good as was asked for:{tried}\n{_advice(job, trials)}".rstrip())


def _good(trials: list[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.refused is None]


def _answers_otherwise(trials: list[Trial], quantize: QuantizationName) -> bool:
    """Whether a way was refused for its answers, and not for its size, its latency or its operators."""
    return any(trial.quantize == quantize and trial.refused and "agreement" in trial.found for trial in trials)


def _try(job: Job, quantize: QuantizationName, in_float: tuple[str, ...] = ()) -> Trial:
    """Makes a file, compares it on the images to choose on, and throws it away."""
    format, model, options = FORMATS["tflite"], job.model, job.options
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{quantize}.tflite"
        try:
            calibration = job.calibration if format.quantizations[quantize].calibrated else []
            chosen = {"quantize": quantize, "calibration": calibration, "in_float": in_float}
            format.write(model.model, model.class_names, model.preprocess, path, **chosen)
            file = format.open(path, **format.alone)
            found |= {"size_bytes": size_of(path), "latency_ms": latency_ms(file, job.image)}
            check_cost(found, options.max_size, options.max_latency_ms)
            limits = None if quantize == "none" else (options.max_drop, options.min_agreement)
            answers, expected = predict_held_out(file, job.choosing), job.expected_choosing
            found |= differences(answers, expected, job.choosing.role)
            check_limits(found, limits)
        except KclsError as error:
            return Trial(quantize, in_float, found, str(error))
    return Trial(quantize, in_float, found, None)


def _with_layers_in_float(job: Job) -> Iterator[Trial]:
    """Files of ``mixed`` in which 1, 2, 4 ... of the most sensitive layers stay in float, until one is good enough."""
    found = measure_sensitivity(job.model.model, job.model.preprocess.image_size, job.calibration)
    write_sensitivity(found, job.folder, job.model.model.name)
    count = 1
    while count <= len(found) // 2:
        trial = _try(job, "mixed", tuple(each.tensor for each in found[:count]))
        yield trial
        if trial.refused is None:
            return
        count *= 2


def _report(job: Job, trials: list[Trial]) -> dict[str, Any]:
    report: dict[str, Any] = {"tried": [trial.row() for trial in trials]}
    if advice := _advice(job, trials):
        report["advice"] = advice
    return report


def _advice(job: Job, trials: list[Trial]) -> str:
    """What may help if what a network can be trained for was refused for its answers; empty if nothing."""
    ways = (name for name in AWARE if can_be_aware(job.model.model, name))
    way = next(ways, None)
    if way is None or not _answers_otherwise(trials, way):
        return ""
    return (
        f"{way} may be as good after a last stage of training that is quantization-aware: `- {{epochs: 3, lr: 0.01, "
        f"quantize_aware: {AWARE[way]}}}` in train.stages, with a tenth of the learning rate before"
    )
