"""Layers with state or randomness that Keras does not have."""

import math

import keras
import numpy as np
from keras import ops

from kcls.models.initializers import small_normal
from kcls.models.roles import not_decayed


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


@keras.saving.register_keras_serializable("kcls")
class ClassTokens(keras.layers.Layer):
    """Puts learnt tokens before the others: (B, N, C) -> (B, count + N, C); Devlin et al., arXiv:1810.04805.

    Args:
        count: how many tokens.
    """

    def __init__(self, count: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.count = count

    def build(self, input_shape):
        """Makes the tokens, (1, count, C)."""
        shape = (1, self.count, input_shape[-1])
        initializer = small_normal()
        self.tokens = not_decayed(self.add_weight(name="tokens", shape=shape, initializer=initializer))

    def call(self, x):
        """Returns ``x`` behind the tokens."""
        tokens = ops.broadcast_to(ops.convert_to_tensor(self.tokens), (ops.shape(x)[0], self.count, x.shape[2]))
        return ops.concatenate([tokens, x], axis=1)

    def compute_output_shape(self, input_shape):
        """One longer for each token."""
        return (input_shape[0], input_shape[1] + self.count, input_shape[2])

    def get_config(self):
        """Configuration for saving."""
        return {**super().get_config(), "count": self.count}


@keras.saving.register_keras_serializable("kcls")
class ShiftedWindowMask(keras.layers.Layer):
    """Parts tokens that only the rolling of a map made neighbours: (B, windows, heads, N, N) -> the same.

    Liu et al., "Swin Transformer", arXiv:2103.14030, section 3.2. The square map was rolled up and left; what came in
    at the bottom and the right is of its other side. Products between such tokens and others lose 100, which leaves
    nothing of them after a softmax.

    Args:
        shift: by how many tokens the map was rolled.
    """

    def __init__(self, shift: int, **kwargs):
        super().__init__(**kwargs)
        self.shift = shift

    def build(self, input_shape):
        """Takes the sides from the shape: of a window in tokens, of the map in windows."""
        _, windows, _, _, tokens = input_shape
        self.size, self.windows = math.isqrt(tokens), math.isqrt(windows)

    def mask(self) -> np.ndarray:
        """0 between tokens that were neighbours, else -100: (windows, N, N)."""
        came_in = np.arange(self.windows * self.size) >= self.windows * self.size - self.shift
        region = came_in[:, None] + 2 * came_in
        region = region.reshape(self.windows, self.size, self.windows, self.size)
        region = region.transpose(0, 2, 1, 3).reshape(self.windows**2, self.size**2)
        return np.where(region[:, :, None] == region[:, None], 0.0, -100.0)

    def call(self, products):
        """Returns the products plus the mask."""
        return products + ops.cast(self.mask()[:, None], products.dtype)

    def compute_output_shape(self, input_shape):
        """The shape of the input."""
        return input_shape

    def get_config(self):
        """Configuration for saving."""
        return {**super().get_config(), "shift": self.shift}


@keras.saving.register_keras_serializable("kcls")
class RandomMask(keras.layers.Layer):
    """Keeps a random part of each sample's tokens, at inference too: (B, N, C) -> (B, K, C), (B, N), (B, N).

    He et al., "Masked Autoencoders", arXiv:2111.06377, section 3: the tokens are shuffled, and the first
    K = int(N (1 - rate)) are kept. The second output is the place of each token in the shuffled order, from 0. The
    third is 1 for a token that is dropped, 0 for one that is kept.

    Args:
        rate: fraction that is dropped.
    """

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator()

    def kept(self, length: int) -> int:
        """How many of so many tokens are kept."""
        return int(length * (1 - self.rate))

    def build(self, input_shape):
        """Checks that some are kept and some are not."""
        length = input_shape[1]
        if not 0 < self.kept(length) < length:
            raise ValueError(f"a mask rate of {self.rate} keeps {self.kept(length)} of {length} tokens")

    def call(self, x):
        """Returns the kept tokens, the places and the mask."""
        length = x.shape[1]
        # In half precision many numbers would be equal, and their tokens would stay in order.
        noise = keras.random.uniform((ops.shape(x)[0], length), dtype="float32", seed=self.seed_generator)
        order = ops.argsort(noise, axis=1)  # the token at each place
        place = ops.argsort(order, axis=1)
        kept = ops.take_along_axis(x, order[:, : self.kept(length), None], axis=1)
        return kept, place, ops.cast(place >= self.kept(length), "float32")

    def compute_output_spec(self, x):
        """Shapes and types of the three outputs."""
        batch, length, width = x.shape
        return (
            keras.KerasTensor((batch, self.kept(length), width), self.compute_dtype),
            keras.KerasTensor((batch, length), "int32"),
            keras.KerasTensor((batch, length), "float32"),
        )

    def get_config(self):
        """Configuration for saving."""
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("kcls")
class MaskTokens(keras.layers.Layer):
    """Puts kept tokens back, and one learnt token wherever one was dropped: (B, prefix + K, C) -> (B, prefix + N, C).

    He et al., "Masked Autoencoders", arXiv:2111.06377, section 3. The second input is what ``RandomMask`` says of the
    places, (B, N).

    Args:
        prefix: number of tokens before the kept ones, which stay as they are.
    """

    def __init__(self, prefix: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.prefix = prefix

    def build(self, input_shape):
        """Makes the token, (1, 1, C)."""
        shape = (1, 1, input_shape[0][-1])
        initializer = small_normal()
        self.token = not_decayed(self.add_weight(name="token", shape=shape, initializer=initializer))

    def call(self, inputs):
        """Returns the tokens in their first order."""
        x, place = inputs
        batch, missing = ops.shape(x)[0], place.shape[1] + self.prefix - x.shape[1]
        token = ops.broadcast_to(ops.convert_to_tensor(self.token), (batch, missing, x.shape[-1]))
        shuffled = ops.concatenate([x[:, self.prefix :], token], axis=1)
        whole = ops.take_along_axis(shuffled, place[:, :, None], axis=1)
        return ops.concatenate([x[:, : self.prefix], whole], axis=1)

    def compute_output_shape(self, input_shape):
        """As long as there are places, and the prefix."""
        (batch, _, width), (_, length) = input_shape
        return (batch, self.prefix + length, width)

    def get_config(self):
        """Configuration for saving."""
        return {**super().get_config(), "prefix": self.prefix}
