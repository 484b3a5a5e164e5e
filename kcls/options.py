"""A model's numeric options, checked against what its builder takes; a recipe asks without Keras."""

from collections.abc import Mapping
from typing import Any

from kcls.errors import RecipeError, near


def check_options(name: str, options: Mapping[str, Any], types: Mapping[str, str]) -> None:
    """Raises a RecipeError for an option that is not among ``types``, or whose value is not of its type."""
    for option, value in options.items():
        if option not in types:
            known = ", ".join(types) or "none"
            raise RecipeError(f"model {name!r} has no option {option!r}{near(option, types)} (its options: {known})")
        came = type(value).__name__
        if came != types[option] and (came, types[option]) != ("int", "float"):
            raise RecipeError(f"model {name!r}: option {option!r} takes {types[option]}, not {value!r}")
