"""MobileNetV4: searched inverted bottlenecks with up to two depthwise convolutions, fast on every kind of phone chip.

Paper: Qin et al., "MobileNetV4: Universal Models for the Mobile Ecosystem", ECCV 2024, arXiv:2404.10518.

    name                       image, px   stem   universal bottlenecks   dropout   drop path
    mobilenet_v4_conv_small    224         32     12                      0.3       0
    mobilenet_v4_conv_medium   256         32     21                      0.2       0.075
    mobilenet_v4_conv_large    384         24     26                      0.2       0.2

Dropout and drop path are those of the authors' recipes (tensorflow/models, official/vision). The drop path rate grows
from 0 in the first universal bottleneck by the same step in each.

Differs: padding is symmetric and the batch norms have the house numbers, as in the weights that were trained in
PyTorch; the authors have "same" padding, an epsilon of 1e-3 and a momentum of 0.997, in the small network 1e-6 and
0.95. Their large network has a drop path rate of 0.2 in every block.
"""

from keras import layers

from kcls.models.blocks import activation, conv_norm_act, depthwise_conv, norm, round_width
from kcls.models.layers import DropPath
from kcls.models.registry import variants


def universal_bottleneck(x, width, start, middle, stride, expansion, drop_path_rate, name):
    """Inverted bottleneck with two optional depthwise convolutions: (B, H, W, C) -> (B, H/stride, W/stride, width).

    Section 3 and Figure 4: with both it is the paper's ExtraDW, with the middle one the inverted bottleneck, with the
    first one a ConvNeXt block, without any a feed-forward network. The later of the two has the stride.

    Args:
        x: the narrow map.
        width: channels of the result.
        start: kernel of the depthwise convolution of the narrow map, which no activation follows; 0 is none.
        middle: kernel of that of the wide map; 0 is none.
        stride: of the later depthwise convolution.
        expansion: channels of the wide map, in those of the narrow one.
        drop_path_rate: of the branch, where there is a shortcut.
        name: prefix of the layers' names.
    """
    shortcut = x
    expanded = expansion * x.shape[-1]
    if start:
        x = depthwise_conv(x, start, 1 if middle else stride, name=f"{name}_start_conv")
        x = norm(x, name=f"{name}_start_norm")
    x = conv_norm_act(x, expanded, 1, name=f"{name}_expand")
    if middle:
        x = depthwise_conv(x, middle, stride, name=f"{name}_middle_conv")
        x = norm(x, name=f"{name}_middle_norm")
        x = activation(x, "relu", name=f"{name}_middle_relu")
    x = conv_norm_act(x, width, 1, act=None, name=f"{name}_project")
    if stride > 1 or width != shortcut.shape[-1]:
        return x
    if drop_path_rate:
        x = DropPath(drop_path_rate, name=f"{name}_drop_path")(x)
    return layers.Add(name=f"{name}_add")([shortcut, x])


def convolutions(x, width):
    """Stages 1 and 2 of the small network, 3x3/2 and 1x1 each: (B, H, W, C) -> (B, H/4, W/4, 64 width)."""
    x = conv_norm_act(x, round_width(32 * width), 3, 2, name="stage1_block1")
    x = conv_norm_act(x, round_width(32 * width), 1, name="stage1_block2")
    x = conv_norm_act(x, round_width(96 * width), 3, 2, name="stage2_block1")
    return conv_norm_act(x, round_width(64 * width), 1, name="stage2_block2")


def fused_bottleneck(x, width):
    """Stage 1 of the others, an inverted bottleneck whose 3x3/2 widens: (B, H, W, C) -> (B, H/2, W/2, 48 width)."""
    x = conv_norm_act(x, 4 * x.shape[-1], 3, 2, name="stage1_block1_fused")
    return conv_norm_act(x, round_width(48 * width), 1, act=None, name="stage1_block1_project")


# Number of the stage -> its universal bottlenecks: how many, kernels of the two depthwise convolutions, stride,
# expansion, width. The tables of the paper's appendix.
SMALL = {
    3: ((1, 5, 5, 2, 3, 96), (4, 0, 3, 1, 2, 96), (1, 3, 0, 1, 4, 96)),
    4: ((1, 3, 3, 2, 6, 128), (1, 5, 5, 1, 4, 128), (1, 0, 5, 1, 4, 128), (1, 0, 5, 1, 3, 128), (2, 0, 3, 1, 4, 128)),
}
MEDIUM = {
    2: ((1, 3, 5, 2, 4, 80), (1, 3, 3, 1, 2, 80)),
    3: (
        (1, 3, 5, 2, 6, 160),
        (2, 3, 3, 1, 4, 160),
        (1, 3, 5, 1, 4, 160),
        (1, 3, 3, 1, 4, 160),
        (1, 3, 0, 1, 4, 160),
        (1, 0, 0, 1, 2, 160),
        (1, 3, 0, 1, 4, 160),
    ),
    4: (
        (1, 5, 5, 2, 6, 256),
        (1, 5, 5, 1, 4, 256),
        (2, 3, 5, 1, 4, 256),
        (1, 0, 0, 1, 4, 256),
        (1, 3, 0, 1, 4, 256),
        (1, 3, 5, 1, 2, 256),
        (1, 5, 5, 1, 4, 256),
        (2, 0, 0, 1, 4, 256),
        (1, 5, 0, 1, 2, 256),
    ),
}
LARGE = {
    2: ((1, 3, 5, 2, 4, 96), (1, 3, 3, 1, 4, 96)),
    3: ((1, 3, 5, 2, 4, 192), (3, 3, 3, 1, 4, 192), (1, 3, 5, 1, 4, 192), (5, 5, 3, 1, 4, 192), (1, 3, 0, 1, 4, 192)),
    4: (
        (1, 5, 5, 2, 4, 512),
        (3, 5, 5, 1, 4, 512),
        (1, 5, 0, 1, 4, 512),
        (1, 5, 3, 1, 4, 512),
        (2, 5, 0, 1, 4, 512),
        (1, 5, 3, 1, 4, 512),
        (1, 5, 5, 1, 4, 512),
        (3, 5, 0, 1, 4, 512),
    ),
}


@variants(
    image_size=224,
    num_classes=1000,
    mobilenet_v4_conv_small=dict(stem=32, first=convolutions, stages=SMALL, drop_rate=0.3),
    mobilenet_v4_conv_medium=dict(
        stem=32, first=fused_bottleneck, stages=MEDIUM, drop_path_rate=0.075, image_size=256, drop_rate=0.2
    ),
    mobilenet_v4_conv_large=dict(
        stem=24, first=fused_bottleneck, stages=LARGE, drop_path_rate=0.2, image_size=384, drop_rate=0.2
    ),
)
def mobilenet_v4(x, *, stem: int, first, stages, width: float = 1.0, drop_path_rate: float = 0.0):
    """Image (B, H, W, 3) -> features (B, 1280); ``width`` multiplies all other widths.

    ``first`` makes what is in front of the universal bottlenecks of ``stages``.
    """
    if not (width > 0 and stem > 0):
        raise ValueError(f"width and stem are above 0, not {width} and {stem}")
    if not 0 <= drop_path_rate < 1:
        raise ValueError(f"drop path rate is a probability from 0 to below 1, not {drop_path_rate}")
    x = conv_norm_act(x, round_width(stem * width), 3, 2, name="stem")
    x = first(x, width)
    blocks = [
        (f"stage{s}_block{b}", row)
        for s, rows in stages.items()
        for b, row in enumerate((row for number, *row in rows for _ in range(number)), 1)
    ]
    for i, (name, (start, middle, stride, expansion, channels)) in enumerate(blocks):
        rate = drop_path_rate * i / len(blocks)
        x = universal_bottleneck(x, round_width(channels * width), start, middle, stride, expansion, rate, name)
    x = conv_norm_act(x, round_width(960 * width), 1, name="last")
    x = layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    x = conv_norm_act(x, 1280, 1, name="features")
    return layers.Flatten(name="flatten")(x)
