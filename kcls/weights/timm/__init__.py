"""The names that timm's checkpoints use, one file a family."""

from kcls.weights.name_map import NAME_MAPS
from kcls.weights.timm import bit, convnext, densenet, efficientnet, mobilenet, regnet, resnet, resnetv2, senet, vgg

__all__ = [
    "NAME_MAPS",
    "bit",
    "convnext",
    "densenet",
    "efficientnet",
    "mobilenet",
    "regnet",
    "resnet",
    "resnetv2",
    "senet",
    "vgg",
]
