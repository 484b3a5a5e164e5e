"""Image folders as a place that images come from."""

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import tensorflow as tf

from kcls.data.decode import SUFFIXES
from kcls.data.listing import Files, Folder, unlabelled
from kcls.data.source import Data, RandomAccess
from kcls.errors import DataError
from kcls.sections import DataSection


class FolderSource(RandomAccess):
    """Files that are read and decoded in every pass."""

    def __init__(self, role: str, root: str, files: Files):
        self.paths = files.paths
        self._names = [os.path.relpath(path, root) for path in files.paths]
        text = "\n".join([*files.class_names, "", *self._names])
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        super().__init__(role, len(files.paths), files.class_names, f"{len(files.paths)} files {digest[:16]}")
        self.labels = files.labels
        self.labelled = bool((files.labels >= 0).all())

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


class WholeFolder(FolderSource):
    """All images of a folder, in no recipe's split."""

    @property
    def title(self) -> str:
        """See ``Source.title``."""
        return self.role


def open_labelled(root: str | Path, class_names: tuple[str, ...], *, loose: bool = False) -> WholeFolder:
    """The images of a folder, with the labels of an artifact of these classes: see ``Folder.labelled``.

    Args:
        root: the folder.
        class_names: of the artifact.
        loose: whether the images may lie in the folder itself, without labels.

    Raises:
        DataError: there is no such folder, or its folders are not called as classes.
    """
    folder = Folder(root)
    free = loose and folder.loose
    files = unlabelled(folder.images, class_names) if free else folder.labelled(class_names)
    return WholeFolder(folder.root, folder.root, files)


def open_halves(root: str | Path, class_names: tuple[str, ...], most: int) -> tuple[WholeFolder, WholeFolder]:
    """The images of a folder and of its folders, without labels, in two parts for an artifact of these classes.

    The first is an even choice of half of them, ``most`` of them at most; the second is the others.

    Raises:
        DataError: there is no such folder, or not two images in it.
    """
    folder = Folder(root)
    paths = folder.images
    if len(paths) < 2:
        raise DataError(f"{root} must hold two images or more ({', '.join(SUFFIXES)}), not {len(paths)}")
    count = min(len(paths) // 2, most)
    chosen = {i * len(paths) // count for i in range(count)}
    parts = [[path for i, path in enumerate(paths) if (i in chosen) == first] for first in (True, False)]
    first, second = (WholeFolder(folder.root, folder.root, unlabelled(part, class_names)) for part in parts)
    return first, second


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
