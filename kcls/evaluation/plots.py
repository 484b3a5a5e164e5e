"""Pictures of an evaluation."""

from pathlib import Path

import numpy as np

from kcls.files import replacing

MOST_NAMES = 60  # class names on an axis; more cannot be read
MOST_COUNTS = 25  # classes up to which each field shows its count


def plot_confusion(confusion: np.ndarray, class_names: tuple[str, ...], title: str, path: Path) -> None:
    """Draws a confusion matrix (rows: true class) to a PNG file; the colour is the share of the row.

    A class that neither occurs nor is answered is left out.
    """
    from matplotlib.figure import Figure

    (seen,) = np.nonzero(confusion.sum(0) + confusion.sum(1))
    confusion, class_names = confusion[np.ix_(seen, seen)], tuple(class_names[i] for i in seen)
    classes = len(class_names)
    side = min(max(4.5, 0.42 * classes + 2), 16)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axis = figure.subplots()
    totals = confusion.sum(1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    picture = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, label="share of the true class", shrink=0.8)
    if classes <= MOST_NAMES:
        rotation = 90 if max(map(len, class_names)) > 3 else 0
        axis.set_xticks(range(classes), class_names, rotation=rotation, parse_math=False)
        axis.set_yticks(range(classes), class_names, parse_math=False)
    if classes <= MOST_COUNTS:
        for row, column in zip(*np.nonzero(confusion), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, confusion[row, column], ha="center", va="center", color=colour, fontsize="small")
    axis.set(xlabel="predicted", ylabel="true")
    axis.set_title(title, parse_math=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
