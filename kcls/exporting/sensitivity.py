"""Sensitivity: how much each layer of a network changes its answers when it alone is int8."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from kcls.backend import quiet_stderr
from kcls.exporting.conversion import Mixed, layer_of
from kcls.files import replacing

CSV_NAME, PLOT_NAME = "sensitivity.csv", "sensitivity.png"
IMAGES = 32  # a mean over them orders the layers
SHOWN = 40  # bars of the plot
LEAST = 1e-9  # a probability whose logarithm is taken


@dataclass(frozen=True)
class Sensitivity:
    """One layer.

    Attributes:
        layer: its name in the network.
        tensor: the name of its output in the file, see ``Mixed.layers``.
        divergence: mean of the Kullback-Leibler divergence of the answers with this layer in int8 from those in
            float, in nats.
    """

    layer: str
    tensor: str
    divergence: float


def measure_sensitivity(model: keras.Model, size: int, calibration: Sequence[np.ndarray]) -> list[Sensitivity]:
    """The layers with a kernel, the most sensitive first.

    Args:
        model: images 0..255 -> logits.
        size: of a square, S.
        calibration: uint8 squares (S, S, 3), which set the ranges; an even choice of ``IMAGES`` is answered.
    """
    mixed = Mixed(model, size, calibration)
    tensors = mixed.layers()
    squares = calibration[:: -(-len(calibration) // IMAGES)]
    expected = _answers(mixed.file(tensors), squares)
    kernels = [layer.name for layer in model.layers if hasattr(layer, "kernel")]
    found = []
    for tensor in tensors:
        answers = _answers(mixed.file([other for other in tensors if other != tensor]), squares)
        divergence = float((expected * np.log(expected / answers)).sum(-1).mean())
        found.append(Sensitivity(layer_of(tensor, model.name, kernels) or tensor, tensor, divergence))
    return sorted(found, key=lambda each: -each.divergence)


def _answers(contents: bytes, squares: Sequence[np.ndarray]) -> np.ndarray:
    """A file's probabilities, (N, C)."""
    with quiet_stderr():
        interpreter = Interpreter(model_content=contents)
        interpreter.allocate_tensors()
    (image,), (score,) = interpreter.get_input_details(), interpreter.get_output_details()
    answers = []
    for square in squares:
        interpreter.set_tensor(image["index"], square[np.newaxis])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(score["index"])[0].clip(LEAST))
    return np.stack(answers)


def write_sensitivity(found: Sequence[Sensitivity], folder: Path, title: str) -> None:
    """Writes a table and a plot of the layers to ``folder``."""
    with replacing(folder / CSV_NAME) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["layer", "divergence"])
        writer.writerows([each.layer, f"{each.divergence:.6g}"] for each in found)
    _plot(
        found[:SHOWN],
        folder / PLOT_NAME,
        f"{title}: the {min(len(found), SHOWN)} most sensitive of {len(found)} layers",
    )


def _plot(found: Sequence[Sensitivity], path: Path, title: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.22 * len(found)), layout="constrained")
    axes = figure.subplots()
    axes.barh([each.layer for each in found], [max(each.divergence, LEAST) for each in found], color="tab:blue")
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("Kullback-Leibler divergence of the answers if this layer alone is int8, nats")
    axes.set_title(title, fontsize=10)
    axes.tick_params(axis="y", labelsize=7)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
