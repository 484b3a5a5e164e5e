"""Checkpoints: every variable of a training in one NumPy archive, whole or not there."""

import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kcls.errors import KclsError
from kcls.files import replacing


class DamagedCheckpoint(KclsError):
    """The file is not what was written."""


def save_checkpoint(path: Path, variables: list, meta: dict[str, Any]) -> None:
    """Writes the values of ``variables`` and ``meta`` (plain types) to ``path``."""
    arrays = {_key(i, v): v.numpy() for i, v in enumerate(variables)}
    with replacing(path) as temporary:
        np.savez(temporary, meta=np.array(json.dumps(meta)), **arrays)


def read_meta(path: Path) -> dict[str, Any]:
    """The ``meta`` of a checkpoint.

    Raises:
        DamagedCheckpoint: the file cannot be read.
    """
    with _opened(path) as file:
        return json.loads(str(file["meta"]))


def load_checkpoint(path: Path, variables: list) -> dict[str, Any]:
    """Puts the saved values back into ``variables`` and returns the ``meta`` they were saved with.

    Raises:
        DamagedCheckpoint: the file cannot be read.
        KclsError: it was written for other variables.
    """
    with _opened(path) as file:
        arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays.pop("meta")))
    wanted = {_key(i, v): v for i, v in enumerate(variables)}
    if wanted.keys() != arrays.keys():
        unknown = sorted(wanted.keys() ^ arrays.keys())
        raise KclsError(f"checkpoint {path} is of another model: {', '.join(unknown[:4])} do not match")
    for name, variable in wanted.items():
        variable.assign(arrays[name])
    return meta


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with np.load(path) as file:
            yield file
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedCheckpoint(f"checkpoint {path} is damaged ({error})") from None


def _key(position: int, variable) -> str:
    """The variable's place and its path without the numbers that Keras counts up through a process."""
    return f"{position}:" + re.sub(r"_\d+", "", variable.path)
