"""Verbs shared by the transformers: stateless functions from a tensor of tokens (B, N, C) to such a tensor.

They compose plain operations of fixed shapes, so that a phone's runtime executes all of a network in one piece.
"""

from functools import partial

from keras import layers, ops

from kcls.models import blocks, registry
from kcls.models.initializers import small_normal
from kcls.models.layers import DropPath


def layer_norm(x, *, epsilon: float, name: str):
    """Normalises each token over its channels: (..., C) -> the same; Ba et al., arXiv:1607.06450."""
    return layers.LayerNormalization(epsilon=epsilon, name=name)(x)


def dense(x, width: int, *, use_bias: bool = True, name: str):
    """The same linear layer for each token: (..., C) -> (..., width)."""
    return layers.Dense(width, use_bias=use_bias, kernel_initializer=small_normal(), name=name)(x)


linear_head = partial(registry.linear_head, init=small_normal)  # of every transformer that has no other


def patches(x, width: int, size: int, *, name: str):
    """A linear layer for each patch of size x size pixels, without overlap: (B, H, W, 3) -> (B, H W / size^2, width).

    Raises:
        ValueError: the patches do not cover the image; the message gives the sizes that would work.
    """
    check_divides(x.shape[1], size, "patches")
    x = layers.Conv2D(width, size, strides=size, kernel_initializer=small_normal(), name=name)(x)
    return ops.reshape(x, (-1, x.shape[1] * x.shape[2], width))


def check_divides(image_size: int, unit: int, units: str) -> None:
    """Raises a ValueError with the nearest image sizes that ``unit`` divides, if it does not divide this one."""
    if image_size % unit or image_size < unit:
        below = image_size // unit * unit
        near = " or ".join(str(size) for size in (below, below + unit) if size)
        raise ValueError(f"the {units} need a multiple of {unit} px, such as {near}")


def attention(
    x, num_heads: int, *, width: int | None = None, qkv_bias: bool = True, bias=None, drop_rate: float = 0.0, name: str
):
    """Multi-head self-attention: (B, ..., N, C) -> (B, ..., N, width); Vaswani et al., arXiv:1706.03762.

    Args:
        x: tokens; each sees the N tokens of its own group only.
        num_heads: each works on width / num_heads channels.
        width: channels of the result, and in the queries, the keys and the values; None is C.
        qkv_bias: whether queries, keys and values have biases.
        bias: layer or function from the products (B, ..., num_heads, N, N) to the same, before the softmax, or None.
        drop_rate: fraction of the attention's weights that is dropped in training.
        name: prefix of the layers' names.

    Raises:
        ValueError: the heads do not divide the channels.
    """
    *groups, length, given = x.shape[1:]
    width = given if width is None else width
    if num_heads < 1 or width % num_heads:
        raise ValueError(f"{num_heads} heads do not divide {width} channels")
    channels = width // num_heads
    rank = len(groups) + 1  # of all before the tokens

    def heads(y):  # (B, ..., N, C) -> (B, ..., heads, N, channels)
        y = ops.reshape(y, (-1, *groups, length, num_heads, channels))
        return ops.swapaxes(y, rank, rank + 1)

    # Not one transpose and a slice each: slices by index leave a phone's accelerated path.
    q, k, v = (heads(y) for y in ops.split(dense(x, 3 * width, use_bias=qkv_bias, name=f"{name}_qkv"), 3, axis=-1))
    weights = ops.matmul(q * channels**-0.5, ops.swapaxes(k, -1, -2))
    if bias is not None:
        weights = bias(weights)
    weights = layers.Softmax(name=f"{name}_softmax")(weights)
    weights = blocks.dropout(weights, drop_rate, name=f"{name}_drop")
    x = ops.swapaxes(ops.matmul(weights, v), rank, rank + 1)
    return dense(ops.reshape(x, (-1, *groups, length, width)), width, name=f"{name}_proj")


def mlp(x, hidden: int, *, drop_rate: float = 0.0, name: str):
    """Two linear layers for each token, the exact GELU between them: (..., C) -> the same."""
    width = x.shape[-1]
    x = dense(x, hidden, name=f"{name}_expand")
    x = blocks.activation(x, "gelu", name=f"{name}_gelu")
    x = blocks.dropout(x, drop_rate, name=f"{name}_drop")
    return dense(x, width, name=f"{name}_reduce")


def residual(x, branch, drop_path_rate: float, *, name: str):
    """X + branch; in training, a fraction ``drop_path_rate`` of the samples goes without the branch."""
    if drop_path_rate:
        branch = DropPath(drop_path_rate, name=f"{name}_drop_path")(branch)
    return layers.Add(name=f"{name}_add")([x, branch])


def encoder_block(
    x, num_heads: int, *, hidden: int, epsilon: float, drop_rate: float = 0.0, drop_path_rate: float = 0.0, name: str
):
    """Attention, then a layer for each token, both on normed tokens and added: (B, N, C) -> the same.

    Dosovitskiy et al., arXiv:2010.11929, equations 2 and 3.

    Args:
        x: tokens.
        num_heads: of the attention.
        hidden: width between the two linear layers.
        epsilon: of the layer norms.
        drop_rate: dropout after the linear layers but the queries', keys' and values'.
        drop_path_rate: of both branches.
        name: prefix of the layers' names.
    """
    y = attention(layer_norm(x, epsilon=epsilon, name=f"{name}_1_norm"), num_heads, name=f"{name}_attention")
    y = blocks.dropout(y, drop_rate, name=f"{name}_1_drop")
    x = residual(x, y, drop_path_rate, name=f"{name}_1")
    y = layer_norm(x, epsilon=epsilon, name=f"{name}_2_norm")
    y = mlp(y, hidden, drop_rate=drop_rate, name=f"{name}_mlp")
    y = blocks.dropout(y, drop_rate, name=f"{name}_2_drop")
    return residual(x, y, drop_path_rate, name=f"{name}_2")
