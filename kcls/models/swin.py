"""Swin Transformer: attention within small windows, which shift from block to block, on maps that shrink by stages.

Paper: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021,
arXiv:2103.14030.

    name         blocks of each stage   widths                heads         drop path
    swin_tiny    2 2 6 2                96 192 384 768        3 6 12 24     .2
    swin_small   2 2 18 2               96 192 384 768        3 6 12 24     .3
    swin_base    2 2 18 2               128 256 512 1024      4 8 16 32     .5
    swin_large   2 2 18 2               192 384 768 1536      6 12 24 48    .2

Windows are 7 x 7 tokens; at 384 px, where swin_base and swin_large were fine-tuned, 12 x 12. The drop path rates are
those of the authors' training: on ImageNet-1k up to swin_base (appendix A2.1), on ImageNet-22k for swin_large. They
grow linearly from 0 in the first block.
"""

from itertools import count

from keras import layers, ops

from kcls.models.initializers import small_normal
from kcls.models.layers import ShiftedWindowMask
from kcls.models.positions import RelativePositionBias
from kcls.models.registry import variants
from kcls.models.transformer import attention, dense, layer_norm, linear_head, mlp, residual

EPSILON = 1e-5  # of the layer norms
PATCH = 4  # pixels; a patch becomes a token


def to_windows(x, size):
    """A map as its windows, row by row, and their tokens: (B, H, W, C) -> (B, H W / size^2, size^2, C)."""
    _, height, columns, width = x.shape
    x = ops.reshape(x, (-1, height // size, size, columns // size, size, width))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height * columns // size**2, size**2, width))


def from_windows(x, size, height):
    """The map (B, height, W, C) of the windows of size x size tokens: undoes ``to_windows``."""
    _, windows, _, width = x.shape
    columns = windows * size**2 // height
    x = ops.reshape(x, (-1, height // size, columns // size, size, size, width))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height, columns, width))


def window_attention(x, num_heads, size, shift, name):
    """Attention within windows that lie ``shift`` tokens further down and right: (B, H, W, C) -> the same.

    Figure 4: the map rolls instead of the windows. What rolls out at one border comes in at the opposite one, so that
    there are as many windows as without shift, and all are whole; a mask parts the tokens that were no neighbours.
    """
    height = x.shape[1]
    position_bias = RelativePositionBias(name=f"{name}_bias")
    mask = ShiftedWindowMask(shift, name=f"{name}_mask") if shift else None

    def bias(products):
        products = position_bias(products)
        return mask(products) if mask else products

    if shift:
        x = ops.roll(x, (-shift, -shift), axis=(1, 2))
    x = to_windows(x, size)
    x = attention(x, num_heads, bias=bias, name=name)
    x = from_windows(x, size, height)
    if shift:
        x = ops.roll(x, (shift, shift), axis=(1, 2))
    return x


def block(x, num_heads, size, shift, drop_path_rate, name):
    """Attention within windows, then a layer for each token: (B, H, W, C) -> the same; equation 3."""
    y = layer_norm(x, epsilon=EPSILON, name=f"{name}_1_norm")
    y = window_attention(y, num_heads, size, shift, f"{name}_attention")
    x = residual(x, y, drop_path_rate, name=f"{name}_1")
    y = layer_norm(x, epsilon=EPSILON, name=f"{name}_2_norm")
    y = mlp(y, 4 * x.shape[-1], name=f"{name}_mlp")
    return residual(x, y, drop_path_rate, name=f"{name}_2")


def merge_patches(x, name):
    """Four neighbours become one token, a linear layer halves its channels: (B, H, W, C) -> (B, H/2, W/2, 2 C)."""
    _, height, columns, width = x.shape
    x = ops.reshape(x, (-1, height // 2, 2, columns // 2, 2, width))
    x = ops.transpose(x, (0, 1, 3, 4, 2, 5))  # top left, bottom left, top right, bottom right
    x = ops.reshape(x, (-1, height // 2, columns // 2, 4 * width))
    x = layer_norm(x, epsilon=EPSILON, name=f"{name}_norm")
    return dense(x, 2 * width, use_bias=False, name=f"{name}_reduce")


def check_image_size(image_size, window_size, stages):
    """Raises a ValueError with the nearest sizes that fit, unless whole windows cover the map of each stage."""

    def fits(size):
        sides, rests = zip(*(divmod(size, PATCH * 2**s) for s in range(stages)), strict=True)
        return not any(rests) and all(side <= window_size or side % window_size == 0 for side in sides)

    if not fits(image_size):
        below = next(filter(fits, range(image_size - 1, 0, -1)), None)
        above = next(filter(fits, count(image_size + 1)))
        near = f"{below} or {above}" if below else above
        raise ValueError(f"the windows of {window_size} x {window_size} tokens need another size, such as {near} px")


@variants(
    image_size=224,
    num_classes=1000,
    head=linear_head,
    swin_tiny=dict(depths=(2, 2, 6, 2), width=96, num_heads=3, drop_path_rate=0.2),
    swin_small=dict(depths=(2, 2, 18, 2), width=96, num_heads=3, drop_path_rate=0.3),
    swin_base=dict(
        depths=(2, 2, 18, 2), width=128, num_heads=4, drop_path_rate=0.5, also=(dict(image_size=384, window_size=12),)
    ),
    swin_large=dict(
        depths=(2, 2, 18, 2), width=192, num_heads=6, drop_path_rate=0.2, also=(dict(image_size=384, window_size=12),)
    ),
)
def swin(x, *, depths, width: int, num_heads: int, window_size: int = 7, drop_path_rate: float = 0.0):
    """Image (B, H, W, 3) -> features (B, 8 width): the mean of the last map, normed.

    ``width`` and ``num_heads`` are those of the first stage; each next one has twice as many. A map that is not larger
    than a window is one window, and shifts nothing.
    """
    if window_size < 2:
        raise ValueError(f"a window is 2 tokens wide or more, not {window_size}")
    check_image_size(x.shape[1], window_size, len(depths))
    x = layers.Conv2D(width, PATCH, strides=PATCH, kernel_initializer=small_normal(), name="stem_conv")(x)
    x = layer_norm(x, epsilon=EPSILON, name="stem_norm")
    done = 0
    for s, depth in enumerate(depths, 1):
        if s > 1:
            x = merge_patches(x, f"stage{s}_merge")
        size = min(window_size, x.shape[1])
        for b in range(1, depth + 1):
            shifted = b % 2 == 0 and size < x.shape[1]
            rate = drop_path_rate * done / (sum(depths) - 1)
            heads = num_heads * 2 ** (s - 1)
            x = block(x, heads, size, size // 2 if shifted else 0, rate, f"stage{s}_block{b}")
            done += 1
    x = layer_norm(x, epsilon=EPSILON, name="last_norm")
    return layers.GlobalAveragePooling2D(name="pool")(x)
