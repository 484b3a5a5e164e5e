"""The masked autoencoder's training: paint the patches that were not seen.

He et al. 2022, arXiv:2111.06377, section 3.
"""

import keras
from keras import ops

from kcls.methods.method import Method, Watched
from kcls.models.layers import RandomMask

EPSILON = 1e-6  # added to the variance of a patch


def pixels_of_patches(image, size: int):
    """Image (B, H, W, 3) -> its patches (B, H W / size^2, 3 size^2), row by row, and so their pixels."""
    _, height, width, colours = image.shape
    x = ops.reshape(image, (-1, height // size, size, width // size, size, colours))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height // size * (width // size), size * size * colours))


def normalized(pixels):
    """Each patch with mean 0 and variance 1: (B, L, N) -> the same. The variance is unbiased: divided by N - 1."""
    n = pixels.shape[-1]
    pixels = pixels - ops.mean(pixels, axis=-1, keepdims=True)
    variance = ops.sum(ops.square(pixels), axis=-1, keepdims=True) / (n - 1)
    return pixels * ops.rsqrt(variance + EPSILON)


class MaskedAutoencoder(Method):
    """Trains a masked autoencoder: ``MaskedAutoencoder(network)``, then ``compile(optimizer)`` and ``fit(images)``.

    The loss is the mean squared error of the normalised pixels of the patches that the encoder has not seen. Labels are
    not looked at. It shares the network's layers, so the network is what is saved and used afterwards; ``predict``
    gives the network's pixels and mask.

    Args:
        network: a model of ``create_model`` such as mae_vit_base_16.

    Raises:
        ValueError: the network is not a masked autoencoder.
    """

    watched = Watched("loss", "min")

    def __init__(self, network: keras.Model):
        if not any(isinstance(layer, RandomMask) for layer in network.layers):
            raise ValueError(f"{network.name} is not a masked autoencoder")
        super().__init__(network)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The mean error of the masked patches, each counted as often as ``sample_weight`` says."""
        pixels, mask = y_pred
        (size, _) = self.network.get_layer("patches").kernel_size
        target = normalized(pixels_of_patches(self.network.get_layer("normalize")(x), size))
        error = ops.mean(ops.square(pixels - target), axis=-1)
        if sample_weight is not None:
            mask = mask * ops.cast(ops.reshape(sample_weight, (-1, 1)), mask.dtype)
        return ops.sum(error * mask) / ops.sum(mask)
