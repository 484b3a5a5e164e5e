"""Whether the images of a split are still those that were trained on."""

import hashlib
import os
from collections.abc import Iterable

from kcls.data.folder import list_files
from kcls.data.sources import prepared_builder
from kcls.errors import DataError
from kcls.sections import DataSection


def fingerprint(data: DataSection, role: str) -> str:
    """A short text that changes when the images of a split become others, by name; their pixels are not read."""
    expression = getattr(data, role)
    if data.source == "folder":
        files = list_files(data.path or "", expression, data.split_seed)
        names = [os.path.relpath(path, data.path) for path in files.paths]
        digest = hashlib.sha256("\n".join([*files.class_names, "", *names]).encode("utf-8", "surrogateescape"))
        return f"{len(names)} files {digest.hexdigest()[:16]}"
    info = prepared_builder(data, download=False).info
    return f"{info.full_name} {expression} {info.splits[expression].num_examples} examples"


def check_unchanged(data: DataSection, roles: Iterable[str], known: dict[str, str], advice: str) -> None:
    """Raises a DataError with ``advice`` if a split is no longer the one with the ``known`` fingerprint."""
    for role in roles:
        now = fingerprint(data, role)
        if role in known and now != known[role]:
            raise DataError(
                f"the images of split {role!r} are not those of the training any more (then: {known[role]}, "
                f"now: {now}); {advice}"
            )


def check_not_trained_on(data: DataSection, role: str, known: dict[str, str]) -> None:
    """Raises a DataError if ``role`` is cut from the same images as ``train``, and these have changed since.

    The slices of a folder are drawn anew when an image is added, so that one that was trained on may be in any.
    """
    if role != "train" and getattr(data, role).partition("[")[0] == data.train.partition("[")[0]:
        advice = f"so {role!r} may hold images that were trained on: put new ones in a folder of their own"
        check_unchanged(data, ("train",), known, advice)
