"""The catalogue: what is known of every variant, read from a file so that listing needs no Keras.

``python -m kcls.catalogue`` writes the file anew from the registry; a test keeps it true.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kcls.errors import RecipeError, near

FILE = Path(__file__).with_name("catalogue.json")


def read_catalogue() -> list[dict[str, Any]]:
    """One object a variant: name, image_size, num_classes, options, trainable_params, gmacs, builder, paper."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def check_model(name: str, options: Mapping[str, Any]) -> None:
    """Raises a RecipeError if kcls has no such variant, or it does not take these options."""
    rows = {row["name"]: row for row in read_catalogue()}
    if name not in rows:
        raise RecipeError(f"unknown model {name!r}{near(name, rows) or '; `kcls models` lists them'}")
    check_options(name, options, rows[name]["free_options"])


def check_options(name: str, options: Mapping[str, Any], types: Mapping[str, str]) -> None:
    """Raises a RecipeError for an option that is not among ``types``, or whose value is not of its type."""
    for option, value in options.items():
        if option not in types:
            known = ", ".join(types) or "none"
            raise RecipeError(f"model {name!r} has no option {option!r}{near(option, types)} (its options: {known})")
        came = type(value).__name__
        if came != types[option] and (came, types[option]) != ("int", "float"):
            raise RecipeError(f"model {name!r}: option {option!r} takes {types[option]}, not {value!r}")


def make_row(name: str) -> dict[str, Any]:
    """The catalogue's row of one variant, counted on the model as published."""
    from kcls.models.count import gmacs, trainable_params
    from kcls.models.registry import create_model, get_variant

    variant = get_variant(name)
    model = create_model(name, num_classes=variant.num_classes)
    doc = sys.modules[variant.builder.__module__].__doc__ or ""
    paper = re.search(r"Paper: (.*?)\.\n", doc, re.DOTALL)
    return {
        "name": name,
        "image_size": variant.image_size,
        "num_classes": variant.num_classes,
        "options": {},
        "trainable_params": trainable_params(model),
        "gmacs": round(gmacs(model), 4),
        "builder": f"{variant.builder.__module__}.{variant.builder.__name__}",
        "free_options": variant.free_options,
        "paper": " ".join(paper[1].split()) if paper else None,
    }


def main() -> None:
    """Writes the catalogue of all registered variants."""
    from kcls.models import list_models

    rows = [json.dumps(make_row(name), ensure_ascii=False) for name in list_models()]
    FILE.write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
