"""Training: from a recipe to a run. ``train`` is the door."""

from typing import TYPE_CHECKING

from kcls.backend import door

if TYPE_CHECKING:
    from kcls.training.entry import train

__all__ = ["train"]

__getattr__ = door("kcls.training.entry", "train")
