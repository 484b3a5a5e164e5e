"""kcls: image classification on Keras 3, from a folder of images to a quantized model on a device.

The names below are loaded when first used, so ``import kcls`` costs nothing and needs no TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kcls.artifact import Classifier, open_artifact
    from kcls.data import load_data
    from kcls.evaluation import evaluate
    from kcls.exporting import export
    from kcls.exporting.benchmark import benchmark
    from kcls.models import create_model, list_models
    from kcls.prediction import predict
    from kcls.predictions import Predictions
    from kcls.pretrained import load_model, load_pretrained
    from kcls.quantization import quantize_aware
    from kcls.recipe import Recipe, RecipeError, load_recipe
    from kcls.run import Run, newest_run
    from kcls.training import train

__version__ = "0.1.0"

_HOMES = {
    "create_model": "kcls.models",
    "list_models": "kcls.models",
    "load_model": "kcls.pretrained",
    "load_pretrained": "kcls.pretrained",
    "load_data": "kcls.data",
    "Recipe": "kcls.recipe",
    "RecipeError": "kcls.recipe",
    "load_recipe": "kcls.recipe",
    "Run": "kcls.run",
    "newest_run": "kcls.run",
    "train": "kcls.training",
    "evaluate": "kcls.evaluation",
    "predict": "kcls.prediction",
    "Predictions": "kcls.predictions",
    "export": "kcls.exporting",
    "benchmark": "kcls.exporting.benchmark",
    "quantize_aware": "kcls.quantization",
    "Classifier": "kcls.artifact",
    "open_artifact": "kcls.artifact",
}

__all__ = [
    "Classifier",
    "Predictions",
    "Recipe",
    "RecipeError",
    "Run",
    "benchmark",
    "create_model",
    "evaluate",
    "export",
    "list_models",
    "load_data",
    "load_model",
    "load_pretrained",
    "load_recipe",
    "newest_run",
    "open_artifact",
    "predict",
    "quantize_aware",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'kcls' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
