"""Verbs shared by the architectures: stateless functions from a tensor to a tensor.

The house numbers live here, once. Padding is symmetric, as in PyTorch and Caffe, so published weights fit.
"""

from keras import initializers, layers

NORM_EPSILON = 1e-5  # of the residual networks' own code; Keras's default is 1e-3
NORM_MOMENTUM = 0.9  # weight of the old statistics; Keras's default is 0.99


def he_normal() -> initializers.Initializer:
    """He et al. 2015, arXiv:1502.01852, equation 14: variance 2 / fan_out keeps the gradients' scale."""
    return initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")


def conv(x, width: int, kernel: int, stride: int = 1, *, padding: int | None = None, name: str):
    """Convolution without bias: (B, H, W, C) -> (B, H/stride, W/stride, width), ``padding`` zeros on each side.

    ``padding`` None is kernel // 2.
    """
    padding = kernel // 2 if padding is None else padding
    same = stride == 1 and padding == kernel // 2  # then "same" is symmetric, and saves an operation
    if padding and not same:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return layers.Conv2D(
        width,
        kernel,
        strides=stride,
        padding="same" if same else "valid",
        use_bias=False,
        kernel_initializer=he_normal(),
        name=name,
    )(x)


def norm(x, *, name: str):
    """Batch normalisation with the house numbers."""
    return layers.BatchNormalization(momentum=NORM_MOMENTUM, epsilon=NORM_EPSILON, name=name)(x)


def conv_norm_act(
    x,
    width: int,
    kernel: int,
    stride: int = 1,
    *,
    padding: int | None = None,
    act: str | None = "relu",
    name: str,
):
    """Convolution, batch norm, activation: (B, H, W, C) -> (B, H/stride, W/stride, width)."""
    x = conv(x, width, kernel, stride, padding=padding, name=f"{name}_conv")
    x = norm(x, name=f"{name}_norm")
    return layers.Activation(act, name=f"{name}_{act}")(x) if act else x
