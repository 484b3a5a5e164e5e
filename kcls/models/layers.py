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


@keras.saving.register_keras_serializable("kcls")
class StdConv2D(keras.layers.Conv2D):
    """Convolution whose kernel is standardised first: (B, H, W, C) -> (B, H', W', filters).

    Qiao et al., "Weight Standardization", arXiv:1903.10520; the epsilon is that of BiT's code. The kernel of each
    output channel gets mean 0 and variance 1 over (h, w, C), so its scale does not matter. Mixed precision standardises
    in float32 as well and then rounds. The arguments are those of ``keras.layers.Conv2D``.
    """

    EPSILON = 1e-10

    def add_weight(self, *args, **kwargs):
        """Adds a weight that mixed precision does not round before it is standardised."""
        if kwargs.get("name") == "kernel":
            kwargs["autocast"] = False
        return super().add_weight(*args, **kwargs)

    def convolution_op(self, inputs, kernel):
        """Returns the convolution of ``inputs`` with the standardised ``kernel``."""
        kernel = ops.convert_to_tensor(kernel)
        axes = (0, 1, 2)
        kernel = kernel - ops.mean(kernel, axes, keepdims=True)
        variance = ops.mean(ops.square(kernel), axes, keepdims=True)  # biased: divided by h w C
        kernel = kernel * ops.rsqrt(variance + self.EPSILON)
        return super().convolution_op(inputs, ops.cast(kernel, inputs.dtype))


@keras.saving.register_keras_serializable("kcls")
class LayerScale(keras.layers.Layer):
    """Scales each channel by a learnt factor: (..., C) -> (..., C).

    Touvron et al., "Going deeper with Image Transformers", arXiv:2103.17239, equation 4: with small first factors a
    residual branch starts near the identity.

    Args:
        initial: first value of all factors.
    """

    def __init__(self, initial: float, **kwargs):
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, input_shape):
        """Makes the factors ``gamma``, one a channel."""
        self.gamma = self.add_weight(
            name="gamma", shape=input_shape[-1:], initializer=keras.initializers.Constant(self.initial)
        )

    def call(self, x):
        """Returns ``x`` times the factors."""
        return x * self.gamma

    def compute_output_shape(self, input_shape):
        """The shape of the input."""
        return input_shape

    def get_config(self):
        """Configuration for saving."""
        return {**super().get_config(), "initial": self.initial}
