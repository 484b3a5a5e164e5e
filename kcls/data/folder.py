"""Image folders: ``root/split/class/image`` or flat ``root/class/image``, with stratified percentage slices."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kcls.data.decode import SUFFIXES
from kcls.errors import DataError, near
from kcls.labels import check_names

FLAT = "all"  # name of a flat folder's only split
_EXPRESSION = re.compile(r"(\w[\w.-]*)(?:\[(?:(\d{1,3})%)?:(?:(\d{1,3})%)?\])?")


@dataclass(frozen=True)
class Files:
    """Paths of images and the index of each one's class in ``class_names``."""

    paths: list[str]
    labels: np.ndarray
    class_names: tuple[str, ...]


def list_files(root: str, expression: str, seed: int) -> Files:
    """Lists the images of a split of a folder.

    ``name[from%:to%]`` takes that part of every class, after an order drawn with ``seed``: each part has the
    classes in the same proportion, and parts that do not overlap share no image.

    Raises:
        DataError: no such folder or split, a class without images, or fewer than two classes.
    """
    name, low, high = parse_expression(expression)
    top = Path(root)
    if not top.is_dir():
        raise DataError(f"no folder {root}")
    folders = _subfolders(top)
    nested = [f.name for f in folders if _subfolders(f)]
    if name == FLAT:
        if nested and not any(_images(f, deep=False) for f in folders):
            raise DataError(
                f"{root} is not flat, its splits are {', '.join(nested)}: use these names instead of {FLAT!r}"
            )
    else:
        if not (top / name).is_dir():
            known = nested or [FLAT]
            raise DataError(f"{root} has no split {name!r}{near(name, known)} (its splits: {', '.join(known)})")
        top = top / name
    classes = _subfolders(top)
    if len(classes) < 2:
        found = f"only {classes[0].name!r}" if classes else "none"
        raise DataError(f"{top} must hold a folder for each of two or more classes; found {found}")
    paths: list[str] = []
    labels: list[int] = []
    check_names(folder.name for folder in classes)
    for label, folder in enumerate(classes):
        images = _images(folder)
        if not images:
            raise DataError(f"class folder {folder} holds no image ({', '.join(SUFFIXES)})")
        if (low, high) != (0, 100):
            order = np.random.RandomState([seed, label]).permutation(len(images))
            first, last = (round(len(images) * bound / 100) for bound in (low, high))
            images = [images[i] for i in sorted(order[first:last])]
        paths += images
        labels += [label] * len(images)
    if not paths:
        raise DataError(f"{expression!r} of {root} is empty: its classes have too few images for that slice")
    return Files(paths, np.array(labels, np.int64), tuple(f.name for f in classes))


def parse_expression(expression: str) -> tuple[str, int, int]:
    """``train[:90%]`` -> ("train", 0, 90).

    Raises:
        DataError: not of that form.
    """
    match = _EXPRESSION.fullmatch(expression.replace(" ", ""))
    low, high = (int(match[2] or 0), int(match[3] or 100)) if match else (0, 0)
    if not match or high > 100:
        raise DataError(f"split {expression!r} is not of the form name or name[from%:to%], such as train[:90%]")
    if low >= high:
        raise DataError(f"split {expression!r} is empty: {low}% is not below {high}%")
    return match[1], low, high


def _subfolders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith((".", "__")))


def _images(folder: Path, deep: bool = True) -> list[str]:
    files = folder.rglob("*") if deep else folder.iterdir()
    return sorted(str(f) for f in files if _is_image(f, folder))


def _is_image(file: Path, top: Path) -> bool:
    """Whether it is an image by its name; hidden files and folders are left out, such as .ipynb_checkpoints."""
    hidden = any(part.startswith(".") for part in file.relative_to(top).parts)
    return not hidden and file.suffix.lower() in SUFFIXES and file.is_file()
