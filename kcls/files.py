"""Files that are either whole or not there: everything kcls writes goes through a temporary name."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kcls.errors import KclsError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path (a file or a folder to be made) that takes the place of ``path`` at the end.

    If the block fails (a full disk), ``path`` keeps its old content and the temporary is removed; after a kill
    ``remove_leftovers`` does that. The temporary keeps the suffix of ``path``, because some writers look at it.

    Raises:
        KclsError: it cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_file():
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        old = path.with_name(f".{path.stem}.{os.getpid()}.old.tmp")
        if path.is_dir():
            os.replace(path, old)
        os.replace(temporary, path)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise KclsError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def is_leftover(name: str) -> bool:
    """Whether a file's name is one of those that ``replacing`` gives while it writes."""
    return re.fullmatch(r"\..+\.\d+\.(old\.tmp|tmp(\..*)?)", name) is not None


def remove_leftovers(folder: Path) -> None:
    """Removes what a process that was killed had not finished writing, in a folder and those in it."""
    for path in [p for p in folder.rglob(".*") if is_leftover(p.name)]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
