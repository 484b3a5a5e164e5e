"""Verbs shared by the architectures: stateless functions from a tensor to a tensor.

The house numbers live here, once. Padding is symmetric, as in PyTorch and Caffe, so published weights fit. A family
with other numbers binds them once: ``norm = partial(blocks.norm, epsilon=1e-3)``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from keras import initializers, layers, ops

from kcls.models.layers import DropPath

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
    kernel_initializer=None,
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
        kernel_initializer=kernel_initializer or he_normal(),
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


def norm(x, *, epsilon: float = NORM_EPSILON, momentum: float = NORM_MOMENTUM, zero_init: bool = False, name: str):
    """Batch normalisation with the house numbers; with ``zero_init`` its gammas start at 0, else at 1."""
    first = "zeros" if zero_init else "ones"
    return layers.BatchNormalization(momentum=momentum, epsilon=epsilon, gamma_initializer=first, name=name)(x)


def norm_relu(x, name: str):
    """Batch norm, ReLU: (B, H, W, C) -> the same."""
    return activation(norm(x, name=f"{name}_norm"), "relu", name=f"{name}_relu")


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


def branch_end(x, width: int, kernel: int, *, zero_init: bool, name: str):
    """Convolution and norm at the end of a residual branch: (B, H, W, C) -> (B, H, W, width).

    With ``zero_init`` the branch starts as 0, and so its unit as its shortcut: Goyal et al., "Accurate, Large Minibatch
    SGD", arXiv:1706.02677, section 5.1.
    """
    return conv_norm_act(x, width, kernel, norm=partial(norm, zero_init=zero_init), act=None, name=name)


def max_pool(x, size: int, stride: int, *, padding: int = 0, name: str):
    """Maximum of size x size windows: (B, H, W, C) -> (B, H/stride, W/stride, C); ``x`` must not be negative.

    Zeros are then as good as minus infinity around the pool.
    """
    x, mode = pad(x, padding, size, stride, name)
    return layers.MaxPooling2D(size, stride, padding=mode, name=name)(x)


def covering_pool(x, *, name: str):
    """3x3/2 maximum as Caffe's: the last window may reach beyond the map: (B, H, W, C) -> (B, H // 2, W // 2, C).

    On an even map it reaches one pixel beyond, at the bottom and right only, which is where "same" adds one.
    """
    return layers.MaxPooling2D(3, 2, padding="valid" if x.shape[1] % 2 else "same", name=name)(x)


def dropout(x, rate: float, *, name: str):
    """Zeros a fraction ``rate``, 0 to below 1, of the values in training and scales up the others; 0 adds nothing.

    Hinton et al. 2012, arXiv:1207.0580. It stands after hidden layers; the dropout before the head is the frame's.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"a dropout rate is a fraction from 0 to below 1, not {rate}")
    return layers.Dropout(rate, name=name)(x) if rate else x


def local_response_norm(x, *, bias: float, alpha: float, beta: float = 0.75, radius: int = 2):
    """Divides by a power of the squares in the neighbouring channels: (B, H, W, C) -> the same.

    Krizhevsky et al. 2012, section 3.3: x / (bias + alpha * sum of 2 radius + 1 squares) ** beta. Here ``alpha`` is a
    factor of the sum, as in the paper and TensorFlow; in Caffe and PyTorch it is one of the mean.
    """
    channels = x.shape[-1]
    squares = ops.square(ops.cast(x, "float32"))  # float16 ends below the square of 256
    squares = ops.pad(squares, [[0, 0], [0, 0], [0, 0], [radius, radius]])
    total = squares[:, :, :, :channels]
    for i in range(1, 2 * radius + 1):
        total = total + squares[:, :, :, i : i + channels]
    return x * ops.cast(ops.power(bias + alpha * total, -beta), x.dtype)


def squeeze_excite(x, hidden: int, *, act: str = "relu", gate: str = "sigmoid", name: str):
    """Scales each channel by a gate that sees the whole map: (B, H, W, C) -> the same; Hu et al., arXiv:1709.01507.

    Args:
        x: the map.
        hidden: width of the bottleneck between the two fully connected layers, which have biases.
        act: activation of the bottleneck.
        gate: activation of the gate.
        name: prefix of the layers' names.

    Raises:
        ValueError: the bottleneck has no channel.
    """
    if hidden < 1:
        raise ValueError(f"squeeze-and-excitation leaves nothing of {x.shape[-1]} channels")
    s = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    s = conv(s, hidden, 1, use_bias=True, name=f"{name}_reduce")
    s = activation(s, act, name=f"{name}_{act}")
    s = conv(s, x.shape[-1], 1, use_bias=True, name=f"{name}_expand")
    s = activation(s, gate, name=f"{name}_gate")
    return layers.Multiply(name=f"{name}_scale")([x, s])


def inverted_residual(
    x,
    width: int,
    kernel: int,
    stride: int,
    *,
    expanded: int,
    act: str,
    padding: Padding = None,
    norm: Callable[..., Any] = norm,
    se_hidden: int = 0,
    se_act: str = "relu",
    se_gate: str = "sigmoid",
    drop_path_rate: float = 0.0,
    name: str,
):
    """Widen, filter each channel, narrow without activation: (B, H, W, C) -> (B, H/stride, W/stride, width).

    Sandler et al., "MobileNetV2", arXiv:1801.04381, section 3.3; also called MBConv. Its shortcuts connect the narrow
    maps, where the shape stays the same.

    Args:
        x: the narrow map.
        width: channels of the result.
        kernel: of the depthwise convolution.
        stride: of the depthwise convolution.
        expanded: channels of the depthwise convolution; with C of them, nothing has to be widened.
        act: activation of the wide maps.
        padding: of the depthwise convolution, as in ``conv``.
        norm: after each convolution.
        se_hidden: bottleneck of the squeeze-and-excitation of the wide map (arXiv:1807.11626); 0 is none.
        se_act: activation of that bottleneck.
        se_gate: activation of its gate.
        drop_path_rate: of the branch, where there is a shortcut.
        name: prefix of the layers' names.
    """
    shortcut = x
    if expanded != x.shape[-1]:
        x = conv_norm_act(x, expanded, 1, norm=norm, act=act, name=f"{name}_expand")
    x = depthwise_conv(x, kernel, stride, padding=padding, name=f"{name}_depthwise_conv")
    x = norm(x, name=f"{name}_depthwise_norm")
    x = activation(x, act, name=f"{name}_depthwise_{act}")
    if se_hidden:
        x = squeeze_excite(x, se_hidden, act=se_act, gate=se_gate, name=f"{name}_se")
    x = conv_norm_act(x, width, 1, norm=norm, act=None, name=f"{name}_project")
    if stride > 1 or width != shortcut.shape[-1]:
        return x
    if drop_path_rate:
        x = DropPath(drop_path_rate, name=f"{name}_drop_path")(x)
    return layers.Add(name=f"{name}_add")([shortcut, x])


def round_width(width: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` nearest to a scaled width, or the next one if that loses over 10 %; never 0.

    The rule of the authors' code of the MobileNets and of EfficientNet.
    """
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * width else rounded + divisor
