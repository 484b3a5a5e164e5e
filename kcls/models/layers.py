"""Layers with state or randomness that Keras does not have."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kcls")
class DropPath(keras.layers.Layer):
    """Drops the whole residual branch of a sample: (B, ...) -> (B, ...).

    Huang et al., "Deep Networks with Stochastic Depth", arXiv:1603.09382. A kept branch is scaled by
    1 / (1 - rate), so nothing changes at inference.

    Args:
        rate: probability, 0 to below 1, that a sample loses the branch in a training step.
    """

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"drop path rate is a probability from 0 to below 1, not {rate}")
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, x, training=False):
        """Returns ``x`` with dropped samples set to 0 in training, ``x`` itself at inference."""
        if not training or self.rate == 0:
            return x
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        kept = keras.random.uniform(shape, seed=self.seed_generator) >= self.rate
        return x * ops.cast(kept, x.dtype) / ops.cast(1 - self.rate, x.dtype)

    def compute_output_shape(self, input_shape):
        """The shape of the input."""
        return input_shape

    def get_config(self):
        """Configuration for saving."""
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("kcls")
class FirstOf(keras.layers.Layer):
    """The first of several tensors; the others stay in the model's graph, for training: [(B, C), ...] -> (B, C)."""

    def call(self, tensors):
        """Returns the first tensor."""
        return tensors[0]

    def compute_output_shape(self, input_shape):
        """The first shape."""
        return input_shape[0]
