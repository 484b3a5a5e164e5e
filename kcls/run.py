"""The run: a folder that holds everything one training made.

runs/<recipe>/<n>/
    recipe.yaml         the resolved recipe, itself a valid recipe
    environment.json    versions, devices
    labels.txt          class names, one a line, in the order of the logits
    train.log           one line an epoch
    metrics.jsonl       one object an epoch
    curves.png          loss, top-1 and learning rate over the epochs
    tensorboard/        the same for TensorBoard
    checkpoints/        last.npz (everything a resume needs) and best.npz (weights)
    model.keras         the finished model with its best weights; there when the training is done
    evaluation/         of `kcls evaluate`
    export/             of `kcls export`
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kcls.errors import KclsError
from kcls.files import write_text
from kcls.recipe import Recipe, load_recipe


@dataclass(frozen=True)
class Run:
    """One run's folder; every other part of kcls asks it where things are."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def model_file(self) -> Path:
        """The finished model."""
        return self.path / "model.keras"

    @property
    def last_checkpoint(self) -> Path:
        """Everything a resume needs."""
        return self.path / "checkpoints" / "last.npz"

    @property
    def best_checkpoint(self) -> Path:
        """The weights of the best epoch so far."""
        return self.path / "checkpoints" / "best.npz"

    @property
    def finished(self) -> bool:
        """Whether the training came to its end."""
        return self.model_file.is_file()

    @property
    def recipe(self) -> Recipe:
        """The recipe of this run."""
        return load_recipe(self.recipe_file)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return tuple((self.path / "labels.txt").read_text(encoding="utf-8").splitlines())

    def history(self) -> list[dict[str, Any]]:
        """One object a finished epoch, the first first."""
        file = self.path / "metrics.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        """Replaces ``metrics.jsonl``."""
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def require_finished(self) -> None:
        """Raises a KclsError with what to do if the training has not come to its end."""
        if not self.finished:
            epochs = f"{len(self.history())} of {self.recipe.train.epochs} epochs are done"
            raise KclsError(f"run {self.path} is not finished ({epochs}); `kcls train --resume --out {self.path}`")


def is_run(path: str | Path) -> bool:
    """Whether the folder is a run."""
    return (Path(path) / "recipe.yaml").is_file()


def open_run(path: str | Path) -> Run:
    """Opens an existing run.

    Raises:
        KclsError: the folder is not a run.
    """
    if not is_run(path):
        raise KclsError(f"{path} is not a run: it has no recipe.yaml")
    return Run(Path(path))


def runs_root() -> Path:
    """Where runs are kept: ``KCLS_RUNS``, else ``runs`` in the current folder."""
    return Path(os.environ.get("KCLS_RUNS", "runs"))


def newest_run(recipe_name: str | None = None, *, finished: bool | None = None) -> Run:
    """The run that was started last, of one recipe or of all.

    Args:
        recipe_name: file name of the recipe without its suffix.
        finished: whether it must be finished (True), must not be (False), or may be either (None).

    Raises:
        KclsError: there is none.
    """
    root = runs_root()
    runs = [Run(file.parent) for file in root.glob(f"{recipe_name or '*'}/*/recipe.yaml")]
    runs = [run for run in runs if finished is None or run.finished == finished]
    if not runs:
        kind = {True: "finished ", False: "unfinished ", None: ""}[finished]
        of = f" of recipe {recipe_name!r}" if recipe_name else ""
        raise KclsError(f"no {kind}run{of} in {root}; `kcls train recipe.yaml` makes one")
    return max(runs, key=lambda run: (run.recipe_file.stat().st_mtime_ns, run.path))


def create_run(recipe: Recipe, name: str, class_names: tuple[str, ...], out: str | Path | None, force: bool) -> Run:
    """Makes the folder of a new run: ``out``, else the next number under the recipe's name.

    Raises:
        KclsError: ``out`` is there already and may not be replaced, or cannot be written.
    """
    try:
        if out is None:
            path = _next_number(runs_root() / name)
        else:
            path = Path(out)
            _make_room(path, force)
            path.mkdir(parents=True)
        write_text(path / "labels.txt", "".join(f"{name}\n" for name in class_names))
        write_text(path / "recipe.yaml", recipe.to_yaml())
    except OSError as error:
        raise KclsError(f"cannot write the run {out or runs_root() / name}: {error.strerror or error}") from None
    return Run(path)


def _next_number(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    number = max((int(p.name) for p in parent.iterdir() if p.name.isdigit()), default=0) + 1
    while True:
        try:
            (parent / str(number)).mkdir()
            return parent / str(number)
        except FileExistsError:  # another training took it a moment ago
            number += 1


def _make_room(path: Path, force: bool) -> None:
    if not path.exists():
        return
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
    elif not is_run(path):
        raise KclsError(f"{path} exists and is not a run; choose another --out")
    elif not force:
        state = "is finished" if Run(path).finished else "is not finished: --resume goes on with it"
        raise KclsError(f"run {path} {state}; --force replaces it")
    else:
        shutil.rmtree(path)
