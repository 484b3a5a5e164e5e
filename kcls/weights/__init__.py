"""Pretrained weights: where they come from, whose names they carry, and how they get into a model."""

from kcls.weights import timm
from kcls.weights.name_map import NAME_MAPS

__all__ = ["NAME_MAPS", "timm"]
