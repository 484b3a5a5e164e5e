"""Evaluation: how good a run is on labelled images. ``evaluate`` is the door."""

from typing import TYPE_CHECKING

from kcls.backend import door

if TYPE_CHECKING:
    from kcls.evaluation.entry import evaluate

__all__ = ["evaluate"]

__getattr__ = door("kcls.evaluation.entry", "evaluate")
