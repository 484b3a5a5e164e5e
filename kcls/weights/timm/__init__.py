"""The names that timm's checkpoints use, one file a family."""

from kcls.weights.name_map import NAME_MAPS
from kcls.weights.timm import (
    bit,
    coatnet,
    convnext,
    densenet,
    efficientnet,
    mobilenet,
    regnet,
    resnet,
    resnetv2,
    senet,
    swin,
    vgg,
    vit,
)

__all__ = [
    "NAME_MAPS",
    "bit",
    "coatnet",
    "convnext",
    "densenet",
    "efficientnet",
    "mobilenet",
    "regnet",
    "resnet",
    "resnetv2",
    "senet",
    "swin",
    "vgg",
    "vit",
]
