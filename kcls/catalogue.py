"""The catalogue: what is known of every variant, read from a file so that listing needs no Keras.

``python -m kcls.write_catalogue`` writes the file anew; a test keeps it true.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kcls.errors import RecipeError, near
from kcls.options import check_options

FILE = Path(__file__).with_name("catalogue.json")


def read_catalogue() -> list[dict[str, Any]]:
    """One object for each published configuration of each variant, in alphabetical order.

    Its keys: name, image_size, num_classes, options, trainable_params, gmacs (of one image), timm (that library's
    name of it), parity (with what it was compared, and the largest difference in deviations of the logits), builder,
    free_options, paper.
    """
    return json.loads(FILE.read_text(encoding="utf-8"))


def check_model(name: str, options: Mapping[str, Any]) -> None:
    """Raises a RecipeError if kcls has no such variant, or it does not take these options."""
    rows = {row["name"]: row for row in read_catalogue()}
    if name not in rows:
        raise RecipeError(f"unknown model {name!r}{near(name, rows) or '; `kcls models` lists them'}")
    check_options(name, options, rows[name]["free_options"])
