"""What every section of a recipe is, and the kinds of numbers in it."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


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
