"""Class names as text: one a line, in the order of the logits, the same in every run and artifact."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kcls.errors import DataError, KclsError

FILE_NAME = "labels.txt"


def to_text(class_names: Iterable[str]) -> str:
    """One name a line."""
    return "".join(f"{name}\n" for name in class_names)


def from_text(text: str) -> tuple[str, ...]:
    """What ``to_text`` was given."""
    return tuple(text.removesuffix("\n").split("\n"))


def read(file: Path) -> tuple[str, ...]:
    """The class names in a file.

    Raises:
        KclsError: it cannot be read.
    """
    try:
        return from_text(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise KclsError(f"cannot read {file}: {error}") from None


def check_names(class_names: Iterable[str]) -> None:
    """Raises a DataError for a name that a label file cannot hold, and for two that differ in case only."""
    seen: dict[str, str] = {}
    for name in class_names:
        if not name.isprintable():
            raise DataError(f"class name {name!r} holds a character that cannot be printed; rename its folder")
        if name.casefold() in seen:
            raise DataError(f"classes {seen[name.casefold()]!r} and {name!r} differ in case only; rename one")
        seen[name.casefold()] = name


@dataclass(frozen=True)
class LabelSet:
    """The classes of a data set that many networks know, in the order of their logits.

    Attributes:
        names: for people.
        synsets: what WordNet 3.0 calls the classes, such as n02123045.
    """

    names: tuple[str, ...]
    synsets: tuple[str, ...]


@functools.cache
def imagenet() -> LabelSet:
    """The 1,000 classes of the ImageNet challenge (ILSVRC 2012); label_sets/LICENSE.md says where they are from."""
    text = (Path(__file__).parent / "label_sets" / "imagenet.tsv").read_text(encoding="utf-8")
    synsets, names = zip(*(line.split("\t") for line in text.splitlines()), strict=True)
    return LabelSet(names, synsets)


def positions(class_names: tuple[str, ...]) -> dict[str, int]:
    """Where each class is in the order of the logits: by its name and, of ImageNet's 1,000, by its synset, too."""
    known = imagenet()
    spellings = (known.names, known.synsets) if class_names in (known.names, known.synsets) else (class_names,)
    return {name: i for names in spellings for i, name in enumerate(names)}
