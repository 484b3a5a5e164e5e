"""The curves of a run as one picture."""

from pathlib import Path
from typing import Any

from kcls.files import replacing
from kcls.methods import Watched
from kcls.training.objective import validated


def plot_curves(rows: list[dict[str, Any]], watched: Watched, path: Path) -> None:
    """Draws the metrics and the learning rate over the epochs to a PNG file; ``watched`` chose the best epoch."""
    from matplotlib.figure import Figure

    epochs = [row["epoch"] for row in rows]
    best = max((row for row in rows if row["best"]), key=lambda row: row["epoch"])
    names = validated(rows[0])
    figure = Figure(figsize=(4 * len(names) + 4, 3.6), layout="constrained")
    *axes, lr = figure.subplots(1, len(names) + 1)
    for axis, name in zip(axes, names, strict=True):
        axis.plot(epochs, [row[name] for row in rows], label="train")
        axis.plot(epochs, [row[f"val_{name}"] for row in rows], label="val")
        title = "top-1 (fraction)" if name == "top1" else name
        if name == watched.metric:
            axis.axvline(best["epoch"], color="grey", linewidth=0.8, linestyle=":")
            title += f", best {best[watched.key]:.4f} in epoch {best['epoch']}"
        axis.set(title=title)
        axis.legend()
    axes[names.index("loss")].set_yscale("log")
    lr.plot(epochs, [row["lr"] for row in rows])
    lr.set(title="learning rate")
    for axis in (*axes, lr):
        axis.set(xlabel="epoch")
        axis.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
