"""What every section of a recipe is, and the kinds of numbers in it."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def size_in_bytes(value: Any) -> int:
    """``4MB``, ``1.5 MiB``, ``300kB`` or a number of bytes -> bytes.

    Raises:
        ValueError: it is no size.
    """
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+\.?\d*)\s*([a-zA-Z]*)\s*", value)):
        number, unit = found.groups()
        if factor := _UNITS.get(unit.lower() or "b"):
            value = int(float(number) * factor)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"expected a size such as 4MB, 1.5MiB or 300kB, not {value!r}")
    return value


Size = Annotated[int, BeforeValidator(size_in_bytes)]


class Section(BaseModel):
    """Base of all sections: frozen, strict about types, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False)

    def idle(self) -> dict[str, str]:
        """The fields that have no effect beside the values of the others, each with the reason."""
        return {}

    @model_validator(mode="after")
    def _refuse_idle_fields(self):
        for field, reason in self.idle().items():
            if field in self.model_fields_set and getattr(self, field) not in (None, ()):
                raise ValueError(f"{field} has no effect {reason}")
        return self

    def resolved(self) -> dict[str, Any]:
        """Every value that has an effect, defaults included, in plain types."""
        idle = self.idle()
        values = {name: getattr(self, name) for name in type(self).model_fields if name not in idle}
        plain = self.model_dump(mode="json")
        return {name: _resolved(value, plain[name]) for name, value in values.items() if value is not None}


def _resolved(value: Any, plain: Any) -> Any:
    """The value of a field, without what has no effect in the sections that it holds."""
    if isinstance(value, Section):
        return value.resolved()
    if isinstance(value, tuple):
        return [_resolved(each, one) for each, one in zip(value, plain, strict=True)]
    return plain
