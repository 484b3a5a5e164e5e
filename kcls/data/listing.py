"""The files of an image folder: ``root/split/class/image`` or flat ``root/class/image``, and slices of them.

No TensorFlow is needed here.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kcls.data.decode import SUFFIXES
from kcls.errors import DataError, near
from kcls.labels import check_names, positions
from kcls.splits import parse_split

FLAT = "all"  # name of a flat folder's only split
MOST_NAMED = 5  # folders that an error names


@dataclass(frozen=True)
class Files:
    """Paths of images and the index of each one's class in ``class_names``, -1 if no class is known of any."""

    paths: list[str]
    labels: np.ndarray
    class_names: tuple[str, ...]


def unlabelled(paths: list[str], class_names: tuple[str, ...]) -> Files:
    """Images whose classes nobody says, for an artifact of these classes."""
    return Files(paths, np.full(len(paths), -1, np.int64), class_names)


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
            images = self._class(folder)
            if (low, high) != (0, 100):
                order = np.random.RandomState([seed, label]).permutation(len(images))
                first, last = (round(len(images) * bound / 100) for bound in (low, high))
                images = [images[i] for i in sorted(order[first:last])]
            paths += images
            labels += [label] * len(images)
        if not paths:
            raise DataError(f"{expression!r} of {self.root} is empty: its classes have too few images for that slice")
        return Files(paths, np.array(labels, np.int64), names)

    def labelled(self, class_names: tuple[str, ...]) -> Files:
        """All images of a flat folder whose folders are called as classes of an artifact, which may know more.

        Args:
            class_names: of the artifact; the labels are those of its logits. ImageNet's classes may be called by
                their synsets (n01440764), too.

        Raises:
            DataError: a folder is not called as a class or holds no image, or there is none.
        """
        known, folders = positions(class_names), self._folders(self.root)
        self._check_known(folders, known)
        classes = [(known[os.path.basename(folder)], self._class(folder)) for folder in folders]
        labels = [label for label, images in classes for _ in images]
        return Files([path for _, images in classes for path in images], np.array(labels, np.int64), class_names)

    def _check_known(self, folders: list[str], known: Mapping[str, int]) -> None:
        if not folders:
            raise DataError(
                f"{self.root} holds no folder; each image lies in one that is called as its class, or has --label-sets"
            )
        unknown = [os.path.basename(folder) for folder in folders if os.path.basename(folder) not in known]
        if unknown and (nested := self.split_names):
            raise DataError(
                f"{self.root} is not flat, its splits are {', '.join(nested)}: name the folder of one, such as "
                f"{os.path.join(self.root, nested[-1])}"
            )
        if unknown:
            shown = ", ".join(f"{name!r}{near(name, known)}" for name in unknown[:MOST_NAMED])
            more = f" and {len(unknown) - MOST_NAMED} more" if len(unknown) > MOST_NAMED else ""
            raise DataError(f"folders in {self.root} that are not called as a class of the model: {shown}{more}")

    @property
    def loose(self) -> bool:
        """Whether it holds images and no folder."""
        return bool(self._read(self.root)[2]) and not self._folders(self.root)

    @property
    def images(self) -> list[str]:
        """All images in the folder and, however deep, in its folders; sorted."""
        inner = [image for folder in self._folders(self.root) for image in self._images(folder)]
        return sorted(self._read(self.root)[2] + inner)

    @property
    def split_names(self) -> tuple[str, ...]:
        """The folders that hold classes; none if the folder is flat, though its classes may hold folders."""
        folders = self._folders(self.root)
        if any(self._read(folder)[2] for folder in folders):
            return ()
        return tuple(os.path.basename(folder) for folder in folders if self._folders(folder))

    def _top(self, name: str) -> str:
        """The folder that holds the classes of a split."""
        nested = self.split_names
        if name == FLAT:
            if nested:
                raise DataError(
                    f"{self.root} is not flat, its splits are {', '.join(nested)}: use these names instead of {FLAT!r}"
                )
            return self.root
        top = os.path.join(self.root, name)
        if not os.path.isdir(top):
            known = nested or (FLAT,)
            raise DataError(f"{self.root} has no split {name!r}{near(name, known)} (its splits: {', '.join(known)})")
        return top

    def _folders(self, folder: str) -> list[str]:
        folders, links, _ = self._read(folder)
        return sorted(f for f in folders + links if not os.path.basename(f).startswith("__"))

    def _class(self, folder: str) -> list[str]:
        """The images of a class, sorted."""
        images = sorted(self._images(folder))
        if not images:
            raise DataError(f"class folder {folder} holds no image ({', '.join(SUFFIXES)})")
        return images

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
