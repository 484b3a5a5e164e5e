"""Checkpoints: every variable of a training in one NumPy archive, whole or not there."""

import json
import re
import zipfile
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


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The ``meta`` of a checkpoint, and its values by their keys.

    Raises:
        DamagedCheckpoint: the file cannot be read.
    """
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        return json.loads(str(arrays.pop("meta"))), arrays
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedCheckpoint(f"checkpoint {path} is damaged ({error})") from None


def restore(arrays: dict[str, np.ndarray], variables: list, path: Path) -> None:
    """Puts the values that were read from ``path`` back into ``variables``.

    Raises:
        KclsError: they are of other variables.
    """
    wanted = {_key(i, v): v for i, v in enumerate(variables)}
    if wanted.keys() != arrays.keys():
        unknown = sorted(wanted.keys() ^ arrays.keys())
        raise KclsError(f"checkpoint {path} is of another model: {', '.join(unknown[:4])} do not match")
    for name, variable in wanted.items():
        variable.assign(arrays[name])


def load_checkpoint(path: Path, variables: list) -> dict[str, Any]:
    """Puts the saved values back into ``variables`` and returns the ``meta`` they were saved with.

    Raises:
        DamagedCheckpoint: the file cannot be read.
        KclsError: it was written for other variables.
    """
    meta, arrays = read_checkpoint(path)
    restore(arrays, variables, path)
    return meta


def _key(position: int, variable) -> str:
    """The variable's place and its path without the numbers that Keras counts up through a process."""
    return f"{position}:" + re.sub(r"_\d+", "", variable.path)
