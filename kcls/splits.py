"""Split expressions, ``name`` or ``name[from:to]``, and whether two of them share images."""

import re
from dataclasses import dataclass

_FORM = re.compile(r"(\w[\w.-]*)(?:\[(\d*)(%?):(\d*)(%?)\])?")


@dataclass(frozen=True)
class Split:
    """A part of the split ``name``: from ``low`` (None: the beginning) to ``high`` (None: the end)."""

    name: str
    low: int | None
    high: int | None
    percent: bool  # whether the bounds are percents, or numbers of images

    @property
    def whole(self) -> bool:
        """Whether it is all of the split."""
        return self.low is None and self.high is None


def parse_split(expression: str) -> Split | None:
    """``train[:90%]`` -> its parts; None if it is not of this form, or mixes percents and numbers."""
    match = _FORM.fullmatch(expression.replace(" ", ""))
    if not match:
        return None
    name, *bounds = match[1], (match[2], match[3]), (match[4], match[5])
    units = {unit for number, unit in bounds if number}
    if len(units) > 1 or any(unit and not number for number, unit in bounds):
        return None
    low, high = (int(number) if number else None for number, _ in bounds)
    return Split(name, low, high, "%" in units)


def certainly_overlap(a: str, b: str, union: str | None = None) -> bool:
    """Whether two splits share images, as far as their expressions tell; ``union`` names all images together."""
    x, y = parse_split(a), parse_split(b)
    if not x or not y or (x.name != y.name and union not in (x.name, y.name)):
        return False
    if x.name != y.name or x.whole or y.whole:
        return True
    if x.percent != y.percent:
        return False
    ends = [end for end in (x.high, y.high) if end is not None]
    return not ends or max(x.low or 0, y.low or 0) < min(ends)
