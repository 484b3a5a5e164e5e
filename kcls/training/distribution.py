"""Which devices a training uses."""

import keras
import tensorflow as tf

from kcls.errors import RecipeError


def make_strategy(name: str) -> tf.distribute.Strategy:
    """``auto``: all GPUs, else one device. ``mirrored``: all GPUs, else all logical CPU devices."""
    gpus = [d.name for d in tf.config.list_logical_devices("GPU")]
    cpus = [d.name for d in tf.config.list_logical_devices("CPU")]
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(gpus or cpus)
    if name == "auto" and len(gpus) > 1:
        return tf.distribute.MirroredStrategy(gpus)
    return tf.distribute.get_strategy()  # one device: the first GPU, else the CPU


def check_batch_size(batch_size: int, replicas: int) -> None:
    """Raises a RecipeError with the nearest batch sizes that the replicas can share."""
    if batch_size % replicas:
        below = batch_size // replicas * replicas
        near = " or ".join(str(size) for size in (below, below + replicas) if size)
        raise RecipeError(
            f"train.batch_size {batch_size} is over all {replicas} replicas and must be a multiple of them: {near}"
        )


def synchronize_batch_norm(model: keras.Model) -> None:
    """Makes batch norm use the statistics of the global batch, as on one device."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
