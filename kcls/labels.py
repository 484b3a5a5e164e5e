"""Class names as text: one a line, in the order of the logits, the same in every run and artifact."""

from collections.abc import Iterable

from kcls.errors import DataError

FILE_NAME = "labels.txt"


def to_text(class_names: Iterable[str]) -> str:
    """One name a line."""
    return "".join(f"{name}\n" for name in class_names)


def from_text(text: str) -> tuple[str, ...]:
    """What ``to_text`` was given."""
    return tuple(text.removesuffix("\n").split("\n"))


def check_names(class_names: Iterable[str]) -> None:
    """Raises a DataError for a name that a label file cannot hold, and for two that differ in case only."""
    seen: dict[str, str] = {}
    for name in class_names:
        if not name.isprintable():
            raise DataError(f"class name {name!r} holds a character that cannot be printed; rename its folder")
        if name.casefold() in seen:
            raise DataError(f"classes {seen[name.casefold()]!r} and {name!r} differ in case only; rename one")
        seen[name.casefold()] = name
