"""Writes the catalogue anew from the registry: ``python -m kcls.write_catalogue``. A test keeps the file true."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kcls.catalogue import FILE
from kcls.models import list_models
from kcls.models.count import gmacs, trainable_params, weightless
from kcls.models.registry import create_model, get_variant
from kcls.weights.timm import NAME_MAPS

PARITY = Path(__file__).with_name("parity.json")  # what the tests measured


def published() -> list[tuple[str, dict[str, Any]]]:
    """Every published configuration: a variant's name, and what changes against its row."""
    return [(name, dict(change)) for name in list_models() for change in ({}, *get_variant(name).also)]


def make_row(name: str, change: Mapping[str, Any]) -> dict[str, Any]:
    """The catalogue's row of one published configuration, counted on its graph, without any memory for weights."""
    variant = get_variant(name)
    frame: dict[str, Any] = {"image_size": variant.image_size, "num_classes": variant.num_classes}
    frame |= {key: change[key] for key in frame if key in change}
    # Options that tell the published configurations of a variant apart.
    told = sorted({key for other in variant.also for key in other} - frame.keys())
    options = {key: change.get(key, variant.option(key)) for key in told}
    doc = sys.modules[variant.builder.__module__].__doc__ or ""
    paper = re.search(r"Paper: (.*?)\.\n", doc, re.DOTALL)
    with weightless():
        model = create_model(name, **frame, **options)
        counts = {"trainable_params": trainable_params(model), "gmacs": round(gmacs(model), 4)}
    return {
        "name": name,
        **frame,
        "options": options,
        **counts,
        "timm": NAME_MAPS[name][0].architecture if name in NAME_MAPS else None,
        "parity": json.loads(PARITY.read_text(encoding="utf-8")).get(name),
        "builder": f"{variant.builder.__module__}.{variant.builder.__name__}",
        "free_options": variant.free_options,
        "paper": " ".join(paper[1].split()) if paper else None,
    }


def main() -> None:
    """Writes the catalogue of all published configurations."""
    rows = [json.dumps(make_row(name, change), ensure_ascii=False) for name, change in published()]
    FILE.write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
