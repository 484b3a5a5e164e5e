"""One small row per kind of architecture, over which the property tests are parametrised."""

import functools

import keras
import numpy as np

from kcls.models import create_model

NUM_CLASSES = 5

# Label -> arguments of create_model. test_models_table.py fails when a builder, block or shortcut has no row.
TINY = {
    "plain": dict(name="plain18", image_size=32, width=4),
    "basic_a": dict(name="resnet34_a", image_size=32, width=4),
    "basic_b": dict(name="resnet18", image_size=32, width=4),
    "basic_c": dict(name="resnet34_c", image_size=32, width=4),
    "bottleneck": dict(name="resnet50", image_size=32, width=4),
    "bottleneck_v1": dict(name="resnet50_v1", image_size=32, width=4),
    "cifar": dict(name="resnet20", image_size=16, units=1, width=4),
    "cifar_drop_path": dict(name="resnet20", image_size=16, units=2, width=4, drop_path_rate=0.2),
    "simple_cnn_m3": dict(name="simple_cnn_m3", image_size=22),
    "simple_cnn_m5": dict(name="simple_cnn_m5", image_size=22),
    "simple_cnn_m7": dict(name="simple_cnn_m7", image_size=26),
}


def build(label: str, **changes) -> keras.Model:
    """The tiny model of a row, some of its arguments changed."""
    return create_model(**{"num_classes": NUM_CLASSES, **TINY[label], **changes})


def jitter(model: keras.Model, seed: int = 0) -> keras.Model:
    """Redraws every weight, so that no gamma is 1, no beta, bias or moving mean is 0, no variance is 1."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        kind = weight.path.rsplit("/", 1)[-1]
        if kind in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, weight.shape)
        elif len(weight.shape) > 1:  # a kernel: He et al. 2015, so that the signal neither fades nor grows
            value = rng.normal(0, np.sqrt(2 / np.prod(weight.shape[:-1])), weight.shape)
        else:
            value = rng.normal(0, 0.3, weight.shape)
        weight.assign(value)
    return model


@functools.cache
def shared(label: str) -> keras.Model:
    """The jittered tiny model of a row, built once for all tests that do not change it."""
    return jitter(build(label))


def images(model: keras.Model, count: int = 2, seed: int = 0) -> np.ndarray:
    """Random float32 images 0..255 of the model's size."""
    return np.random.default_rng(seed).uniform(0, 255, (count, *model.input.shape[1:])).astype("float32")


def logits(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """What the model answers at inference."""
    return keras.ops.convert_to_numpy(model(x, training=False))
