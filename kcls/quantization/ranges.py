"""The ranges of activations: what int8 spreads its 256 steps over."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcls.errors import KclsError
from kcls.quantization.layers import fake_quantize_fixed, register

SPREAD = 1 + 1 / 512
"""A range is so much wider at its upper end: 0..255 as -1..1 would lie halfway between its steps, pixel by pixel."""


@register
class FixedRange(keras.layers.Layer):
    """Rounds to 255 steps of a range that is known, such as that of an image.

    Args:
        low: its lower end.
        high: its upper end.
    """

    def __init__(self, low: float, high: float, **kwargs):
        super().__init__(**kwargs)
        self.low, self.high = low, high

    def call(self, inputs):
        """Returns ``inputs``, clipped and rounded."""
        return fake_quantize_fixed(inputs, self.low, self.high, 8)

    def compute_output_shape(self, input_shape):
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Configuration for saving."""
        return {**super().get_config(), "low": self.low, "high": self.high}


@register
class Range(keras.layers.Layer):
    """Rounds tensors that must have one scale to 255 steps of their common range, which follows them in training.

    Called once for each of its tensors, with the tensor's number. Of each tensor it keeps the moving extremes; the
    range spans those of all, and 0. Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", arXiv:1712.05877, section 3.1. Before the first step of a training, or
    ``calibrate``, there is no range, and the answer is NaN.

    Args:
        count: how many tensors.
        momentum: weight of the old extremes in a step.
        bits: of the rounded values.
    """

    def __init__(self, count: int = 1, momentum: float = 0.95, bits: int = 8, **kwargs):
        super().__init__(**kwargs)
        self.count, self.momentum, self.bits = count, momentum, bits
        self.calibrating = False
        self.low, self.high = (self._extremes(name) for name in ("low", "high"))

    def _extremes(self, name: str):
        return self.add_weight(
            name=name,
            shape=(self.count,),
            initializer=keras.initializers.Constant(np.nan),
            trainable=False,
            autocast=False,
            aggregation="mean",
        )

    def call(self, inputs, number=0, training=None):
        """Returns ``inputs``, clipped and rounded; in training the range first takes a step towards them."""
        if (training and self.trainable) or self.calibrating:
            self._follow(self.low, number, tf.minimum(tf.reduce_min(inputs), 0.0), tf.minimum)
            self._follow(self.high, number, tf.maximum(tf.reduce_max(inputs), 0.0), tf.maximum)
        return tf.quantization.fake_quant_with_min_max_vars(inputs, *self.ends(), self.bits)

    def ends(self):
        """Its lower and its upper end, NaN or infinite before they are known."""
        low = tf.reduce_min(_known(self.low, np.inf))
        high = SPREAD * tf.reduce_max(_known(self.high, -np.inf))
        return low, tf.maximum(high, low + 1e-6)

    def numbers(self) -> tuple[float, float]:
        """Its ends, as numbers."""
        low, high = self.ends()
        return float(low), float(high)

    def _follow(self, extremes, number: int, new, wider) -> None:
        """Moves an extreme of a tensor towards its ``new`` one, or as far as it when calibrating."""
        old = tf.convert_to_tensor(extremes)
        moved = wider(old, new) if self.calibrating else old + (1 - self.momentum) * (new - old)
        moved = tf.where(tf.math.is_nan(old), new, moved)
        extremes.assign(tf.where(tf.range(self.count) == number, moved, old))

    def compute_output_spec(self, inputs, number=0, training=None):
        """The shape of the input."""
        return keras.KerasTensor(inputs.shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Configuration for saving."""
        return {**super().get_config(), "count": self.count, "momentum": self.momentum, "bits": self.bits}


def _known(extremes, otherwise: float):
    """The extremes, ``otherwise`` in place of those that are not known."""
    extremes = tf.convert_to_tensor(extremes)
    return tf.where(tf.math.is_nan(extremes), otherwise, extremes)


def ranges_of(model: keras.Model) -> list[Range]:
    """The ranges of a model of ``quantize_aware``; none of an ordinary one."""
    return [layer for layer in model.layers if isinstance(layer, Range)]


def is_quantization_aware(model: keras.Model) -> bool:
    """Whether a model is one of ``quantize_aware``."""
    return bool(ranges_of(model))


def quantization_of(model: keras.Model) -> str | None:
    """As what a model of ``quantize_aware`` is exported, ``int8`` or ``mixed``; None of an ordinary one."""
    if not is_quantization_aware(model):
        return None
    return "int8" if any(isinstance(layer, FixedRange) for layer in model.layers) else "mixed"


def unknown_ranges(model: keras.Model) -> list[str]:
    """Names of the ranges of a model of ``quantize_aware`` that are not known yet."""
    return [layer.name for layer in ranges_of(model) if not np.isfinite(keras.ops.convert_to_numpy(layer.low)).all()]


def calibrate(model: keras.Model, images: np.ndarray, batch_size: int = 64) -> None:
    """Sets the ranges of a model of ``quantize_aware`` to what images (N, H, W, 3) of 0..255 reach in it.

    Training moves them on from there; without it, the model is that of quantization after training.

    Raises:
        KclsError: the model is not quantization-aware, or there is no image.
    """
    if not is_quantization_aware(model):
        raise KclsError(f"{model.name} has no ranges to calibrate: it is not quantization-aware")
    if not len(images):
        raise KclsError("a range cannot be found from no images")
    ranges = ranges_of(model)
    for layer in ranges:
        layer.low.assign(np.full(layer.count, np.nan))
        layer.high.assign(np.full(layer.count, np.nan))
        layer.calibrating = True
    try:
        for start in range(0, len(images), batch_size):
            model(tf.cast(images[start : start + batch_size], tf.float32), training=False)
    finally:
        for layer in ranges:
            layer.calibrating = False
