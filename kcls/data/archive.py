"""What travels inside a model file, in a zip archive: class names and preprocessing.

A ``.keras`` file is such an archive; a TFLite file has one behind it.
"""

import json
import zipfile
from pathlib import Path
from typing import IO

from kcls import labels
from kcls.data.preprocess import Preprocess
from kcls.errors import KclsError, RecipeError

CONFIG_NAME = "kcls.json"
MOST_BYTES = 8 * 2**20  # of a text: the names of 100,000 classes take less


def config_files(
    class_names: tuple[str, ...], preprocess: Preprocess, weights_sha256: str | None = None
) -> dict[str, str]:
    """Name -> text of the files that make a model a classifier; an exported one says which weights it came from."""
    origin = {"weights_sha256": weights_sha256} if weights_sha256 else {}
    config = json.dumps({"preprocess": preprocess.to_dict(), **origin})
    return {labels.FILE_NAME: labels.to_text(class_names), CONFIG_NAME: config}


def add_config(
    file: Path | IO[bytes], class_names: tuple[str, ...], preprocess: Preprocess, weights_sha256: str | None = None
) -> None:
    """Adds these files to the archive of a model file."""
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        for name, text in config_files(class_names, preprocess, weights_sha256).items():
            # A fixed date, so that the same model makes the same bytes.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)


def read_config(file: Path) -> tuple[tuple[str, ...], Preprocess]:
    """The class names and the preprocessing inside a model file, which may come from anywhere.

    Raises:
        KclsError: it holds none, or what it holds makes no sense.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            class_names = labels.from_text(_read(archive, labels.FILE_NAME))
            return class_names, Preprocess.from_dict(json.loads(_read(archive, CONFIG_NAME))["preprocess"])
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, RuntimeError) as error:  # too deep is a RuntimeError
        reason = f" ({error})" if isinstance(error, RecipeError) else ""
        raise KclsError(
            f"{file} holds no labels and preprocessing: it was not made by kcls, or is damaged{reason}"
        ) from None


def _read(archive: zipfile.ZipFile, name: str) -> str:
    """A text in an archive, whose header may lie about its length."""
    with archive.open(name) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"{name} is larger than {MOST_BYTES} bytes")
    return content.decode()
