"""Image folders: ``root/split/class/image`` or flat ``root/class/image``, with stratified percentage slices."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tensorflow as tf

from kcls.data.decode import SUFFIXES
from kcls.data.source import Data, RandomAccess
from kcls.errors import DataError, near
from kcls.labels import check_names
from kcls.sections import DataSection
from kcls.splits import parse_split

FLAT = "all"  # name of a flat folder's only split


@dataclass(frozen=True)
class Files:
    """Paths of images and the index of each one's class in ``class_names``."""

    paths: list[str]
    labels: np.ndarray
    class_names: tuple[str, ...]


class Folder:
    """A folder of images; each of its folders is read once, when it is first needed.

    Args:
        root: the folder that holds the splits or, if it is flat, the classes.

    Raises:
        DataError: there is no such folder.
    """

    def __init__(self, root: str | Path):
        self.root = str(root)
        self._known: dict[str, tuple[list[str], list[str], list[str]]] = {}
        if not os.path.isdir(self.root):
            raise DataError(f"no folder {root}")

    def files(self, expression: str, seed: int) -> Files:
        """The images of a split.

        ``name[from%:to%]`` takes that part of every class, after an order drawn with ``seed``: each part has the
        classes in the same proportion, and parts that do not overlap share no image.

        Raises:
            DataError: no such split, a class without images, or fewer than two classes.
        """
        name, low, high = parse_percents(expression)
        top = self._top(name)
        classes = self._folders(top)
        names = tuple(os.path.basename(folder) for folder in classes)
        if len(classes) < 2:
            found = f"only {names[0]!r}" if classes else "none"
            raise DataError(f"{top} must hold a folder for each of two or more classes; found {found}")
        check_names(names)
        paths: list[str] = []
        labels: list[int] = []
        for label, folder in enumerate(classes):
            images = sorted(self._images(folder))
            if not images:
                raise DataError(f"class folder {folder} holds no image ({', '.join(SUFFIXES)})")
            if (low, high) != (0, 100):
                order = np.random.RandomState([seed, label]).permutation(len(images))
                first, last = (round(len(images) * bound / 100) for bound in (low, high))
                images = [images[i] for i in sorted(order[first:last])]
            paths += images
            labels += [label] * len(images)
        if not paths:
            raise DataError(f"{expression!r} of {self.root} is empty: its classes have too few images for that slice")
        return Files(paths, np.array(labels, np.int64), names)

    def _top(self, name: str) -> str:
        """The folder that holds the classes of a split."""
        folders = self._folders(self.root)
        nested = [os.path.basename(f) for f in folders if self._folders(f)]
        if name == FLAT:
            if nested and not any(self._read(f)[2] for f in folders):
                raise DataError(
                    f"{self.root} is not flat, its splits are {', '.join(nested)}: use these names instead of {FLAT!r}"
                )
            return self.root
        top = os.path.join(self.root, name)
        if not os.path.isdir(top):
            known = nested or [FLAT]
            raise DataError(f"{self.root} has no split {name!r}{near(name, known)} (its splits: {', '.join(known)})")
        return top

    def _folders(self, folder: str) -> list[str]:
        folders, links, _ = self._read(folder)
        return sorted(f for f in folders + links if not os.path.basename(f).startswith("__"))

    def _images(self, folder: str) -> list[str]:
        folders, _, images = self._read(folder)  # a link to a folder above would never end
        return images + [image for inner in folders for image in self._images(inner)]

    def _read(self, folder: str) -> tuple[list[str], list[str], list[str]]:
        """The folders, the links to folders and the images in a folder; hidden ones are left out."""
        if folder not in self._known:
            folders, links, images = self._known[folder] = ([], [], [])
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):  # such as .ipynb_checkpoints
                        continue
                    if entry.is_dir():
                        (links if entry.is_symlink() else folders).append(entry.path)
                    elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                        images.append(entry.path)
        return self._known[folder]


def parse_percents(expression: str) -> tuple[str, int, int]:
    """``train[:90%]`` -> ("train", 0, 90).

    Raises:
        DataError: not of that form, or empty.
    """
    split = parse_split(expression)
    if not split or not (split.percent or split.whole) or (split.high or 0) > 100:
        raise DataError(f"split {expression!r} is not of the form name or name[from%:to%], such as train[:90%]")
    low, high = split.low or 0, 100 if split.high is None else split.high
    if low >= high:
        raise DataError(f"split {expression!r} is empty: {low}% is not below {high}%")
    return split.name, low, high


class FolderSource(RandomAccess):
    """Files that are read and decoded in every pass."""

    def __init__(self, role: str, root: str, files: Files):
        self.paths = files.paths
        self._names = [os.path.relpath(path, root) for path in files.paths]
        text = "\n".join([*files.class_names, "", *self._names])
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        super().__init__(role, len(files.paths), files.class_names, f"{len(files.paths)} files {digest[:16]}")
        self.labels = files.labels

    @cached_property
    def _tensors(self):
        with tf.init_scope(), tf.device("CPU"):  # outside of the graph that asks first
            return tf.constant(self.paths), tf.constant(self.labels)

    def record(self, index):
        """See ``Source.record``."""
        paths, labels = self._tensors
        return index, tf.io.read_file(paths[index]), labels[index]

    @property
    def names(self) -> Sequence[str]:
        """See ``Source.names``: the path from the folder."""
        return self._names

    labels: np.ndarray


class FolderData(Data):
    """A folder of images on this machine."""

    def __init__(self, section: DataSection, download: bool = False):
        super().__init__(section, download)
        self.folder = Folder(section.path or "")

    def _open(self, role: str, expression: str) -> FolderSource:
        root, seed = self.folder.root, self.section.split_seed
        files = self.folder.files(expression, seed)
        if role == "train":
            empty = [n for i, n in enumerate(files.class_names) if not (files.labels == i).any()]
            if empty:
                raise DataError(
                    f"split {expression!r} of {root} has no image of {', '.join(empty)}; give train a larger part"
                )
        else:
            self._check_classes(role, files.class_names)
        return FolderSource(role, root, files)

    def _check_classes(self, role: str, found: tuple[str, ...]) -> None:
        expected = self.split("train").class_names
        if found != expected:
            missing, new = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
            raise DataError(
                f"the classes of {role} differ from those of train in {self.folder.root}:"
                + (f" missing {', '.join(missing)};" if missing else "")
                + (f" not in train {', '.join(new)};" if new else "")
            )
