"""The names that timm's checkpoints use, one file a family."""

from kcls.weights.timm import resnet

__all__ = ["resnet"]
