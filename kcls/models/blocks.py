"""Verbs shared by the architectures: stateless functions from a tensor to a tensor.

The house numbers live here, once. Padding is symmetric, as in PyTorch and Caffe, so published weights fit. A family
with other numbers binds them once: ``norm = partial(blocks.norm, epsilon=1e-3)``.
"""

from collections.abc import Callable
from typing import Any, Literal

from keras import initializers, layers

NORM_EPSILON = 1e-5  # of the residual networks' own code; Keras's default is 1e-3
NORM_MOMENTUM = 0.9  # weight of the old statistics; Keras's default is 0.99

Padding = int | Literal["same"] | None


def he_normal() -> initializers.Initializer:
    """He et al. 2015, arXiv:1502.01852, equation 14: variance 2 / fan_out keeps the gradients' scale."""
    return initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")


def pad(x, padding: Padding, kernel: int, stride: int, name: str):
    """Zeros around (B, H, W, C) as far as the layer that follows cannot add them: the tensor, that layer's padding."""
    if padding == "same":
        return x, "same"
    padding = kernel // 2 if padding is None else padding
    if stride == 1 and kernel == 2 * padding + 1:  # then "same" is symmetric, and saves an operation
        return x, "same"
    if padding:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return x, "valid"


def conv(
    x,
    width: int,
    kernel: int,
    stride: int = 1,
    *,
    padding: Padding = None,
    groups: int = 1,
    use_bias: bool = False,
    bias_initializer="zeros",
    name: str,
):
    """Convolution: (B, H, W, C) -> (B, H/stride, W/stride, width).

    ``padding`` is the number of zeros on each side, None is kernel // 2; "same" is TensorFlow's, which may add one
    more at the bottom and right.
    """
    x, mode = pad(x, padding, kernel, stride, name)
    return layers.Conv2D(
        width,
        kernel,
        strides=stride,
        padding=mode,
        groups=groups,
        use_bias=use_bias,
        kernel_initializer=he_normal(),
        bias_initializer=bias_initializer,
        name=name,
    )(x)


def depthwise_conv(x, kernel: int, stride: int = 1, *, padding: Padding = None, use_bias: bool = False, name: str):
    """One convolution a channel: (B, H, W, C) -> (B, H/stride, W/stride, C); ``padding`` as in ``conv``."""
    x, mode = pad(x, padding, kernel, stride, name)
    return layers.DepthwiseConv2D(
        kernel,
        strides=stride,
        padding=mode,
        use_bias=use_bias,
        depthwise_initializer=he_normal(),
        name=name,
    )(x)


def norm(x, *, epsilon: float = NORM_EPSILON, momentum: float = NORM_MOMENTUM, name: str):
    """Batch normalisation with the house numbers."""
    return layers.BatchNormalization(momentum=momentum, epsilon=epsilon, name=name)(x)


def activation(x, act: str, *, name: str):
    """An activation of Keras by its name: relu, silu, hard_swish, gelu, sigmoid ..."""
    return layers.Activation(act, name=name)(x)


def conv_norm_act(
    x,
    width: int,
    kernel: int,
    stride: int = 1,
    *,
    padding: Padding = None,
    groups: int = 1,
    norm: Callable[..., Any] = norm,
    act: str | None = "relu",
    name: str,
):
    """Convolution without bias, norm, activation: (B, H, W, C) -> (B, H/stride, W/stride, width)."""
    x = conv(x, width, kernel, stride, padding=padding, groups=groups, name=f"{name}_conv")
    x = norm(x, name=f"{name}_norm")
    return activation(x, act, name=f"{name}_{act}") if act else x


def max_pool(x, size: int, stride: int, *, padding: int = 0, name: str):
    """Maximum of size x size windows: (B, H, W, C) -> (B, H/stride, W/stride, C); ``x`` must not be negative.

    Zeros are then as good as minus infinity around the pool.
    """
    x, mode = pad(x, padding, size, stride, name)
    return layers.MaxPooling2D(size, stride, padding=mode, name=name)(x)


def squeeze_excite(x, hidden: int, *, act: str = "relu", gate: str = "sigmoid", name: str):
    """Scales each channel by a gate that sees the whole map: (B, H, W, C) -> the same; Hu et al., arXiv:1709.01507.

    Args:
        x: the map.
        hidden: width of the bottleneck between the two fully connected layers, which have biases.
        act: activation of the bottleneck.
        gate: activation of the gate.
        name: prefix of the layers' names.
    """
    s = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    s = conv(s, hidden, 1, use_bias=True, name=f"{name}_reduce")
    s = activation(s, act, name=f"{name}_{act}")
    s = conv(s, x.shape[-1], 1, use_bias=True, name=f"{name}_expand")
    s = activation(s, gate, name=f"{name}_gate")
    return layers.Multiply(name=f"{name}_scale")([x, s])
