"""Architectures as flat functional ``keras.Model``s: RGB 0..255 in, float32 logits out.

This room imports Keras only, so it runs on every Keras backend.
"""

from kcls.models import (
    alexnet,
    bit,
    convnext,
    densenet,
    efficientnet,
    googlenet,
    identity_mappings,
    inception,
    inception_resnet,
    mobilenet_v2,
    mobilenet_v3,
    prelunet,
    regnety,
    resnet,
    resnetv2,
    senet,
    simple_cnn,
    spinalnet,
    vgg,
    wide_resnet,
)
from kcls.models.registry import create_model, list_models, variants

__all__ = [
    "alexnet",
    "bit",
    "convnext",
    "create_model",
    "densenet",
    "efficientnet",
    "googlenet",
    "identity_mappings",
    "inception",
    "inception_resnet",
    "list_models",
    "mobilenet_v2",
    "mobilenet_v3",
    "prelunet",
    "regnety",
    "resnet",
    "resnetv2",
    "senet",
    "simple_cnn",
    "spinalnet",
    "variants",
    "vgg",
    "wide_resnet",
]
