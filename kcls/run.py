"""The run: a folder that holds everything one training made.

runs/<recipe>/<n>/
    recipe.yaml         the resolved recipe, itself a valid recipe
    splits.json         what was trained and validated on, to notice when it changes
    pretrained.json     where the weights came from that it started with: SHA-256, licence, preprocessing
    environment.json    versions, devices and command of each start
    labels.txt          class names, one a line, in the order of the logits
    train.log           one line an epoch
    metrics.jsonl       one object an epoch
    curves.png          loss, top-1 and learning rate over the epochs
    tensorboard/        the same for TensorBoard
    checkpoints/        last.npz (everything a resume needs), previous.npz (the one before) and best.npz (weights)
    model.keras         the finished model with its best weights; there when the training is done
    evaluation/         of `kcls evaluate`: a folder a split, in it one more for each exported file
    export/             of `kcls export`
"""

import fcntl
import glob
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kcls import labels
from kcls.errors import KclsError
from kcls.files import is_leftover, write_text
from kcls.recipe import Recipe, load_recipe

_NAMES = {  # of everything that a run may hold
    *(
        "recipe.yaml",
        "splits.json",
        "pretrained.json",
        "environment.json",
        "labels.txt",
        "train.log",
        "metrics.jsonl",
        "curves.png",
    ),
    *("tensorboard", "checkpoints", "model.keras", "evaluation", "export", ".lock"),
}


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
    def previous_checkpoint(self) -> Path:
        """The one before the last, in case that one is damaged."""
        return self.path / "checkpoints" / "previous.npz"

    @property
    def can_be_restored(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self.last_checkpoint.is_file() or self.previous_checkpoint.is_file()

    @property
    def best_checkpoint(self) -> Path:
        """The weights of the best epoch so far."""
        return self.path / "checkpoints" / "best.npz"

    @property
    def finished(self) -> bool:
        """Whether the training came to its end."""
        return self.model_file.is_file()

    @property
    def complete(self) -> bool:
        """Whether it is finished, evaluated and exported, as far as its recipe asks for it."""
        report = self.path / "export" / "report.json"
        rows = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else []
        asked = self.recipe.export.formats if self.recipe.export else ()
        evaluated = not self.recipe.data.test or (self.path / "evaluation" / "test" / "metrics.json").is_file()
        return self.finished and evaluated and {row["format"] for row in rows} >= set(asked)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe of this run."""
        return load_recipe(self.recipe_file)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return labels.from_text((self.path / labels.FILE_NAME).read_text(encoding="utf-8"))

    @property
    def splits(self) -> dict[str, str]:
        """Fingerprints of the splits that were trained and validated on."""
        file = self.path / "splits.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

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
            epochs = f"{len(self.history())} of {self.recipe.train.total_epochs} epochs are done"
            command = f"kcls train --resume --out {shlex.quote(str(self.path))}"
            raise KclsError(f"run {self.path} is not finished ({epochs}); `{command}`")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training this run within the block.

        Raises:
            KclsError: another process is training it.
        """
        with open(self.path / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise KclsError(f"run {self.path} is being trained by another process") from None
            yield


def is_run(path: str | Path) -> bool:
    """Whether the folder is a run."""
    return all((Path(path) / name).is_file() for name in ("recipe.yaml", labels.FILE_NAME))


def open_run(path: str | Path) -> Run:
    """Opens an existing run.

    Raises:
        KclsError: the folder is not a run.
    """
    if not is_run(path):
        raise KclsError(f"{path} is not a run: it has no recipe.yaml and labels.txt")
    return Run(Path(path))


def run_around(path: str | Path) -> Run | None:
    """The run in whose folder a file lies, however deep; None if it lies in none."""
    path = Path(path)
    return next((Run(p) for p in (*path.parents, *path.absolute().parents) if is_run(p)), None)


def finished_run(run: Run | str | Path | None) -> Run:
    """The finished run that is meant: a run, the path of one, or the newest one for None.

    Raises:
        KclsError: there is none, or it is not finished.
    """
    if run is None:
        return newest_run(finished=True)
    run = run if isinstance(run, Run) else open_run(run)
    run.require_finished()
    return run


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
    runs = [run for run in list_runs(recipe_name) if finished is None or run.finished == finished]
    if not runs:
        kind = {True: "finished ", False: "unfinished ", None: ""}[finished]
        of = f" of recipe {recipe_name!r}" if recipe_name else ""
        raise KclsError(f"no {kind}run{of} in {runs_root()}; `kcls train recipe.yaml` makes one")
    return max(runs, key=_age)


def list_runs(recipe_name: str | None = None) -> list[Run]:
    """The runs of one recipe or of all, the first started first."""
    name = glob.escape(recipe_name) if recipe_name else "*"
    return sorted((Run(file.parent) for file in runs_root().glob(f"{name}/*/recipe.yaml")), key=_age)


def _age(run: Run) -> tuple[int, Path]:
    return run.recipe_file.stat().st_mtime_ns, run.path


def resumable_run(recipe_name: str | None = None) -> Run:
    """The newest run that is not finished, else the newest that was not evaluated and exported as its recipe asks.

    Raises:
        KclsError: there is none.
    """
    finished = [run for run in list_runs(recipe_name) if run.finished and not run.complete]
    try:
        return newest_run(recipe_name, finished=False)
    except KclsError:
        if not finished:
            raise
        return max(finished, key=_age)


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
        write_text(path / labels.FILE_NAME, labels.to_text(class_names))
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
        raise KclsError(f"{path} exists and is not a run (it has no recipe.yaml and labels.txt); choose another --out")
    elif foreign := sorted(p.name for p in path.iterdir() if p.name not in _NAMES and not is_leftover(p.name)):
        raise KclsError(f"{path} holds {foreign[0]!r}, which is not of a run; choose another --out")
    elif not force:
        state = "is finished" if Run(path).finished else "is not finished: --resume goes on with it"
        raise KclsError(f"run {path} {state}; --force replaces it")
    else:
        with Run(path).locked():
            shutil.rmtree(path)
