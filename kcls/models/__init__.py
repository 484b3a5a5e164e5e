"""Architectures as flat functional ``keras.Model``s: RGB 0..255 in, float32 logits out.

This room imports Keras only, so it runs on every Keras backend.
"""

from kcls.models import resnet, simple_cnn
from kcls.models.registry import create_model, list_models, variants

__all__ = ["create_model", "list_models", "resnet", "simple_cnn", "variants"]
