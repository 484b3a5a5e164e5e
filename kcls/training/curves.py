"""The curves of a run as one picture."""

from pathlib import Path
from typing import Any

from kcls.files import replacing


def plot_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws loss, top-1 and learning rate over the epochs to a PNG file."""
    from matplotlib.figure import Figure

    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss, top1, lr = figure.subplots(1, 3)
    for axis, name in ((loss, "loss"), (top1, "top1")):
        axis.plot(epochs, [row[name] for row in rows], label="train")
        axis.plot(epochs, [row[f"val_{name}"] for row in rows], label="val")
        axis.legend()
    loss.set_yscale("log")
    best = max((row for row in rows if row["best"]), key=lambda row: row["epoch"])
    top1.axvline(best["epoch"], color="grey", linewidth=0.8, linestyle=":")
    top1_title = f"top-1 (fraction), best {best['val_top1']:.4f} in epoch {best['epoch']}"
    lr.plot(epochs, [row["lr"] for row in rows])
    for axis, title in ((loss, "loss"), (top1, top1_title), (lr, "learning rate")):
        axis.set(title=title, xlabel="epoch")
        axis.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
