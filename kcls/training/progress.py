"""What a person sees of a training: a live line on a terminal, a plain line an epoch in a log, TensorBoard."""

import sys
from pathlib import Path
from typing import Any

import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from kcls.training.objective import validated


class TrainingDisplay:
    """Shows steps and epochs on stderr and writes the epochs to a log file.

    Args:
        log_file: gets one plain line an epoch.
        total_steps: of the whole training.
        first_step: where it starts, above 0 after a resume.
    """

    def __init__(self, log_file: Path, total_steps: int, first_step: int):
        self.log_file = log_file
        self.console = Console(file=sys.stderr)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("", total=total_steps, completed=first_step)

    def __enter__(self):
        self.bar.start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.bar.stop()

    def step(self, epoch: int, step: int, loss: float) -> None:
        """Notes that ``step`` steps are done."""
        self.bar.update(self.task, completed=step, description=f"epoch {epoch + 1}  loss {loss:.3f}")

    def say(self, line: str) -> None:
        """Prints a line and writes it to the log."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        with open(self.log_file, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def epoch(self, row: dict[str, Any], epochs: int) -> None:
        """Prints and logs an epoch's line."""
        best = "  best so far" if row["best"] else ""
        names = validated(row)
        metrics = "  ".join(f"{key} {row[key]:.4f}" for key in (*names, *(f"val_{name}" for name in names)))
        self.say(
            f"epoch {row['epoch']:>3}/{epochs}  {metrics}  lr {row['lr']:.2e}  "
            f"{row['images_per_second']:,.0f} images/s  {row['seconds']:.1f} s{best}"
        )


class TensorBoard:
    """Writes the numbers of each epoch to a folder that TensorBoard reads."""

    def __init__(self, folder: Path):
        self.writer = tf.summary.create_file_writer(str(folder))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.writer.close()

    def epoch(self, row: dict[str, Any]) -> None:
        """Writes the row of an epoch."""
        with self.writer.as_default(row["step"]):
            names = validated(row)
            for key in (*names, *(f"val_{name}" for name in names), "lr", "images_per_second"):
                tf.summary.scalar(key, row[key])
        self.writer.flush()
