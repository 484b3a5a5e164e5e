"""CoAtNet: stages of convolutions, then stages of attention that sees the whole map and knows how far tokens lie apart.

Paper: Dai et al., "CoAtNet: Marrying Convolution and Attention for All Data Sizes", NeurIPS 2021, arXiv:2106.04803.

    name        blocks of each stage   widths                    stem   heads of   drop path
    coatnet_0   2 3 5 2                96 192 384 768            64     32         .2
    coatnet_1   2 6 14 2               96 192 384 768            64     32         .3
    coatnet_2   2 6 14 2               128 256 512 1024          128    32         .5
    coatnet_3   2 6 14 2               192 384 768 1536          192    32         .7
    coatnet_4   2 12 28 2              192 384 768 1536          192    32         .7
    coatnet_5   2 12 28 2              256 512 1280 2048         192    32         0
    coatnet_6   2 4 8 42 2             192 384 768 1536 2048     192    128        0
    coatnet_7   2 4 8 42 2             256 512 1024 2048 3072    192    128        0

The last two stages are transformers, the others convolutions. A stage halves the map; only the stage of 42 transformer
blocks keeps that of the 8 convolutional ones before it, so both are the paper's S3 (Table 12). The drop path rates are
those of the paper's training from random weights (Table 10): on ImageNet-1k up to coatnet_3, on ImageNet-21k for
coatnet_4, on JFT for coatnet_5; it gives none for the last two. They grow linearly from 0 in the first block.

Differs: there is no code of the authors, and this is timm's network. It halves maps by averages, the paper by maxima.
It strides in the depthwise convolution, the more accurate of the two places in Table 9, not in the 1x1 before. It puts
a linear layer and tanh before the head. The paper's coatnet_5 has heads of 64 channels (``head_channels=64``). A wide
map has 4 times the channels that leave its block, and squeeze-and-excitation keeps a quarter of these. A shortcut is
projected only where the width changes, in coatnet_6 and coatnet_7, which timm lacks, as in the paper wherever the map
shrinks (``project_pooled``). Table 12 gives coatnet_6 1.35e9 parameters, where the paper says 1.47e9.
"""

from functools import partial
from math import ceil

from keras import layers, ops

from kcls.models.blocks import activation, conv, conv_norm_act, depthwise_conv, norm, round_width, squeeze_excite
from kcls.models.positions import RelativePositionBias
from kcls.models.registry import variants
from kcls.models.transformer import attention, check_divides, dense, layer_norm, linear_head, mlp, residual

EPSILON = 1e-6  # of the layer norms


def pool(x, stride, name):
    """Means of stride x stride pixels: (B, H, W, C) -> (B, H/stride, W/stride, C)."""
    return layers.AveragePooling2D(stride, name=name)(x) if stride > 1 else x


def shortcut(x, width, stride, project_pooled, name):
    """Pooled, and projected if the width changes: (B, H, W, C) -> (B, H/stride, W/stride, width)."""
    project = width != x.shape[-1] or (project_pooled and stride > 1)
    x = pool(x, stride, f"{name}_shortcut_pool")
    return conv(x, width, 1, use_bias=True, name=f"{name}_shortcut") if project else x


def mbconv(x, width, stride, drop_path_rate, name, *, project_pooled=False):
    """Widens a normed map, filters each channel, narrows it: (B, H, W, C) -> (B, H/stride, W/stride, width).

    The inverted residual of MobileNetV2, arXiv:1801.04381, with a norm before it and none after it.
    """
    y = norm(x, name=f"{name}_pre_norm")
    y = conv_norm_act(y, 4 * width, 1, act="gelu", name=f"{name}_expand")
    y = depthwise_conv(y, 3, stride, name=f"{name}_depthwise_conv")
    y = activation(norm(y, name=f"{name}_depthwise_norm"), "gelu", name=f"{name}_depthwise_gelu")
    y = squeeze_excite(y, width // 4, act="silu", name=f"{name}_se")
    y = conv(y, width, 1, use_bias=True, name=f"{name}_project")
    return residual(shortcut(x, width, stride, project_pooled, name), y, drop_path_rate, name=name)


def relative_attention(x, width, head_channels, name):
    """Attention between all pixels, biased by their offset (equation 3): (B, H, W, C) -> (B, H, W, width)."""
    if head_channels < 1 or width % head_channels:
        raise ValueError(f"heads of {head_channels} channels do not divide {width} channels")
    _, height, columns, channels = x.shape
    x = ops.reshape(x, (-1, height * columns, channels))
    bias = RelativePositionBias(name=f"{name}_bias")
    x = attention(x, width // head_channels, width=width, bias=bias, name=name)
    return ops.reshape(x, (-1, height, columns, width))


def transformer(x, width, stride, drop_path_rate, name, *, head_channels, project_pooled=False):
    """Attention, then a layer for each pixel, both on normed maps: (B, H, W, C) -> (B, H/stride, W/stride, width)."""
    y = layer_norm(x, epsilon=EPSILON, name=f"{name}_1_norm")
    y = pool(y, stride, f"{name}_1_pool")
    y = relative_attention(y, width, head_channels, f"{name}_attention")
    x = residual(shortcut(x, width, stride, project_pooled, name), y, drop_path_rate, name=f"{name}_1")
    y = layer_norm(x, epsilon=EPSILON, name=f"{name}_2_norm")
    y = mlp(y, 4 * width, name=f"{name}_mlp")
    return residual(x, y, drop_path_rate, name=f"{name}_2")


@variants(
    image_size=224,
    num_classes=1000,
    head=linear_head,
    coatnet_0=dict(depths=(2, 3, 5, 2), widths=(96, 192, 384, 768), drop_path_rate=0.2),
    coatnet_1=dict(depths=(2, 6, 14, 2), widths=(96, 192, 384, 768), drop_path_rate=0.3),
    coatnet_2=dict(depths=(2, 6, 14, 2), widths=(128, 256, 512, 1024), stem_width=128, drop_path_rate=0.5),
    coatnet_3=dict(depths=(2, 6, 14, 2), widths=(192, 384, 768, 1536), stem_width=192, drop_path_rate=0.7),
    coatnet_4=dict(depths=(2, 12, 28, 2), widths=(192, 384, 768, 1536), stem_width=192, drop_path_rate=0.7),
    coatnet_5=dict(depths=(2, 12, 28, 2), widths=(256, 512, 1280, 2048), stem_width=192),
    coatnet_6=dict(
        depths=(2, 4, 8, 42, 2),
        widths=(192, 384, 768, 1536, 2048),
        strides=(2, 2, 2, 1, 2),
        stem_width=192,
        head_channels=128,
        project_pooled=True,
    ),
    coatnet_7=dict(
        depths=(2, 4, 8, 42, 2),
        widths=(256, 512, 1024, 2048, 3072),
        strides=(2, 2, 2, 1, 2),
        stem_width=192,
        head_channels=128,
        project_pooled=True,
    ),
)
def coatnet(
    x,
    *,
    depths,
    widths,
    strides=(2, 2, 2, 2),
    stem_width: int = 64,
    width_multiplier: float = 1.0,
    depth_multiplier: float = 1.0,
    head_channels: int = 32,
    project_pooled: bool = False,
    drop_path_rate: float = 0.0,
):
    """Image (B, H, W, 3) -> features (B, last width): the normed mean of the last map, a linear layer, tanh.

    ``width_multiplier`` scales all widths, to multiples of 8, and ``depth_multiplier`` the numbers of blocks, upwards.
    ``project_pooled`` projects the shortcut of every block that shrinks the map, also where its width stays.
    """
    if width_multiplier <= 0 or depth_multiplier <= 0:
        raise ValueError(f"multipliers are above 0, not {width_multiplier} and {depth_multiplier}")
    check_divides(x.shape[1], 32, "five halvings")
    stem_width, *widths = (round_width(width * width_multiplier) for width in (stem_width, *widths))
    depths = [ceil(depth * depth_multiplier) for depth in depths]
    convolutional = partial(mbconv, project_pooled=project_pooled)
    attentive = partial(transformer, head_channels=head_channels, project_pooled=project_pooled)
    blocks = [convolutional] * (len(depths) - 2) + [attentive] * 2

    x = conv_norm_act(x, stem_width, 3, 2, act="gelu", name="stem_1")
    x = conv(x, stem_width, 3, name="stem_2_conv")
    count = 0
    for s, (block, depth, width, stride) in enumerate(zip(blocks, depths, widths, strides, strict=True), 1):
        for b in range(1, depth + 1):
            rate = drop_path_rate * count / (sum(depths) - 1)
            x = block(x, width, stride if b == 1 else 1, rate, f"stage{s}_block{b}")
            count += 1
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layer_norm(x, epsilon=EPSILON, name="last_norm")
    x = dense(x, x.shape[-1], name="pre_logits")
    return activation(x, "tanh", name="pre_logits_tanh")
