"""ConvNeXt: a ResNet redesigned step by step with the choices of vision transformers.

Paper: Liu et al., "A ConvNet for the 2020s", CVPR 2022, arXiv:2201.03545.

    name             blocks of each stage   widths               drop path (Table 5)
    convnext_tiny    3 3 9 3                96 192 384 768       .1
    convnext_small   3 3 27 3               96 192 384 768       .4
    convnext_base    3 3 27 3               128 256 512 1024     .5
    convnext_large   3 3 27 3               192 384 768 1536     .5

The drop path rates are those of the paper's training on ImageNet-1k from random weights; they grow linearly from 0 in
the first block. Fine-tuning has others (Table 6). Every kernel starts with a deviation of .02 (Table 5).
"""

from functools import partial

from keras import layers

from kcls.models.initializers import small_normal
from kcls.models.layers import DropPath, LayerScale
from kcls.models.registry import linear_head, variants

EPSILON = 1e-6  # of the layer norms
FIRST_SCALE = 1e-6  # of the residual branches


def norm(x, name):
    """Layer norm over the channels of each position: (..., C) -> the same."""
    return layers.LayerNormalization(epsilon=EPSILON, name=name)(x)


def patch_conv(x, width, size, name):
    """One convolution for each patch, without overlap: (B, H, W, C) -> (B, H/size, W/size, width)."""
    return layers.Conv2D(width, size, strides=size, kernel_initializer=small_normal(), name=name)(x)


def block(x, drop_path_rate, name):
    """Mixes space, then channels: (B, H, W, C) -> the same; one norm, one activation (Figure 4)."""
    width = x.shape[-1]
    y = layers.DepthwiseConv2D(7, padding="same", depthwise_initializer=small_normal(), name=f"{name}_conv")(x)
    y = norm(y, f"{name}_norm")
    y = layers.Dense(4 * width, kernel_initializer=small_normal(), name=f"{name}_expand")(y)
    y = layers.Activation("gelu", name=f"{name}_gelu")(y)  # the exact one, with erf
    y = layers.Dense(width, kernel_initializer=small_normal(), name=f"{name}_reduce")(y)
    y = LayerScale(FIRST_SCALE, name=f"{name}_scale")(y)
    if drop_path_rate:
        y = DropPath(drop_path_rate, name=f"{name}_drop_path")(y)
    return layers.Add(name=f"{name}_add")([x, y])


@variants(
    image_size=224,
    num_classes=1000,
    head=partial(linear_head, init=small_normal),
    convnext_tiny=dict(depths=(3, 3, 9, 3), width=96, drop_path_rate=0.1),
    convnext_small=dict(depths=(3, 3, 27, 3), width=96, drop_path_rate=0.4),
    convnext_base=dict(depths=(3, 3, 27, 3), width=128, drop_path_rate=0.5),
    convnext_large=dict(depths=(3, 3, 27, 3), width=192, drop_path_rate=0.5),
)
def convnext(x, *, depths, width: int, drop_path_rate: float):
    """Image (B, H, W, 3) -> features (B, 8 width): the normed mean of the last map."""
    x = patch_conv(x, width, 4, "stem_conv")
    x = norm(x, "stem_norm")
    count = 0
    for s, depth in enumerate(depths, 1):
        if s > 1:
            x = norm(x, f"stage{s}_downsample_norm")
            x = patch_conv(x, width * 2 ** (s - 1), 2, f"stage{s}_downsample_conv")
        for b in range(1, depth + 1):
            rate = drop_path_rate * count / (sum(depths) - 1)
            x = block(x, rate, f"stage{s}_block{b}")
            count += 1
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return norm(x, "last_norm")
