"""EfficientNet: one small searched network, and larger ones that scale its width, depth and image size together.

EfficientNet-Lite is the same for devices that compute in int8: ReLU6 bounds every map, no gate multiplies it.

Paper: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
arXiv:1905.11946; efficientnet_l2 of Xie et al., "Self-training with Noisy Student improves ImageNet
classification", CVPR 2020, arXiv:1911.04252, and at 475 px of Foret et al., "Sharpness-Aware Minimization for
Efficiently Improving Generalization", ICLR 2021, arXiv:2010.01412; efficientnet_b6_wide of Pham et al., "Meta
Pseudo Labels", CVPR 2021, arXiv:2003.10580; the lite ones of EfficientNet-lite (Tan, TensorFlow TPU repository),
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite, 2020.

    name                   width          depth          image, px        dropout
    efficientnet_b0        1.0            1.0            224              0.2
    efficientnet_b1 b2     1.0 1.1        1.1 1.2        240 260          0.2 0.3
    efficientnet_b3 b4     1.2 1.4        1.4 1.8        300 380          0.3 0.4
    efficientnet_b5 b6     1.6 1.8        2.2 2.6        456 528          0.4 0.5
    efficientnet_b7 b8     2.0 2.2        3.1 3.6        600 672          0.5
    efficientnet_b6_wide   5.0            2.6            800              0.5
    efficientnet_l2        4.3            5.3            800, 475         0.5
    efficientnet_lite0     1.0            1.0            224              0.2
    efficientnet_lite1     1.0            1.1            240              0.2
    efficientnet_lite2     1.1            1.2            260              0.3
    efficientnet_lite3     1.2            1.4            280              0.3
    efficientnet_lite4     1.4            1.8            300              0.3

The numbers are those of the authors' TensorFlow code: "same" padding, batch norm with an epsilon of 1e-3 and a
momentum of 0.99, normal kernels with the variance 2 / fan-out, a uniform head. ``same_padding=False`` pads both sides
alike, which is how the weights that were trained in PyTorch want it. The paper's stochastic depth, ``drop_path_rate``,
grows from 0 in the first block by the same step in each. efficientnet_b6_wide has the multipliers of the released code,
and 316.6 million parameters; the paper prints 390 million. The lite ones keep efficientnet_b0's stem and last
convolution, and one block in the first and last stage; timm's files of lite3 and lite4 say 300 and 380 px.
"""

from functools import partial
from math import ceil

from keras import initializers, layers

from kcls.models import blocks
from kcls.models.blocks import Padding, conv_norm_act, inverted_residual, round_width
from kcls.models.registry import linear_head, variants

norm = partial(blocks.norm, epsilon=1e-3, momentum=0.99)

# Table 1: expansion, kernel, stride of the first block, width, number of blocks, of each stage of efficientnet_b0.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


def mbconv(x, width, kernel, stride, expansion, *, lite, padding, drop_path_rate, name):
    """Inverted residual, with squeeze-and-excitation unless lite: (B, H, W, C) -> (B, H/stride, W/stride, width).

    The wide map of C expansion channels is squeezed to a quarter of the C that came, not of its own.
    """
    return inverted_residual(
        x,
        width,
        kernel,
        stride,
        expanded=x.shape[-1] * expansion,
        act="relu6" if lite else "silu",
        padding=padding,
        norm=norm,
        se_hidden=0 if lite else x.shape[-1] // 4,
        se_act="silu",
        drop_path_rate=drop_path_rate,
        name=name,
    )


def uniform():
    """The authors' initialiser of the head: within 1 / sqrt(class count) of 0."""
    return initializers.VarianceScaling(1 / 3, mode="fan_out", distribution="uniform")


def network(x, width, depth, same_padding, drop_path_rate, *, lite):
    """Image (B, H, W, 3) -> features (B, C): the stages of efficientnet_b0, scaled."""
    if not (width > 0 and depth > 0):
        raise ValueError(f"width and depth are multipliers above 0, not {width} and {depth}")
    if not 0 <= drop_path_rate < 1:
        raise ValueError(f"drop path rate is a probability from 0 to below 1, not {drop_path_rate}")
    padding: Padding = "same" if same_padding else None
    act, ends = ("relu6", 1.0) if lite else ("silu", width)
    repeats = [ceil(depth * stage[-1]) for stage in STAGES]
    if lite:
        repeats[0], repeats[-1] = STAGES[0][-1], STAGES[-1][-1]
    x = conv_norm_act(x, round_width(32 * ends), 3, 2, padding=padding, norm=norm, act=act, name="stem")
    count = 0
    for s, ((expansion, kernel, first_stride, channels, _), repeat) in enumerate(zip(STAGES, repeats, strict=True), 1):
        for b in range(1, repeat + 1):
            x = mbconv(
                x,
                round_width(channels * width),
                kernel,
                first_stride if b == 1 else 1,
                expansion,
                lite=lite,
                padding=padding,
                drop_path_rate=drop_path_rate * count / sum(repeats),
                name=f"stage{s}_block{b}",
            )
            count += 1
    x = conv_norm_act(x, round_width(1280 * ends), 1, norm=norm, act=act, name="last")
    return layers.GlobalAveragePooling2D(name="pool")(x)


@variants(
    image_size=224,
    num_classes=1000,
    head=partial(linear_head, init=uniform),
    efficientnet_b0=dict(width=1.0, depth=1.0, image_size=224, drop_rate=0.2),
    efficientnet_b1=dict(width=1.0, depth=1.1, image_size=240, drop_rate=0.2),
    efficientnet_b2=dict(width=1.1, depth=1.2, image_size=260, drop_rate=0.3),
    efficientnet_b3=dict(width=1.2, depth=1.4, image_size=300, drop_rate=0.3),
    efficientnet_b4=dict(width=1.4, depth=1.8, image_size=380, drop_rate=0.4),
    efficientnet_b5=dict(width=1.6, depth=2.2, image_size=456, drop_rate=0.4),
    efficientnet_b6=dict(width=1.8, depth=2.6, image_size=528, drop_rate=0.5),
    efficientnet_b7=dict(width=2.0, depth=3.1, image_size=600, drop_rate=0.5),
    efficientnet_b8=dict(width=2.2, depth=3.6, image_size=672, drop_rate=0.5),
    efficientnet_b6_wide=dict(width=5.0, depth=2.6, image_size=800, drop_rate=0.5),
    efficientnet_l2=dict(width=4.3, depth=5.3, image_size=800, drop_rate=0.5, also=(dict(image_size=475),)),
)
def efficientnet(x, *, width: float, depth: float, same_padding: bool = True, drop_path_rate: float = 0.2):
    """Image (B, H, W, 3) -> features (B, 1280 width); ``width`` and ``depth`` multiply those of efficientnet_b0."""
    return network(x, width, depth, same_padding, drop_path_rate, lite=False)


@variants(
    image_size=224,
    num_classes=1000,
    head=partial(linear_head, init=uniform),
    efficientnet_lite0=dict(width=1.0, depth=1.0, image_size=224, drop_rate=0.2),
    efficientnet_lite1=dict(width=1.0, depth=1.1, image_size=240, drop_rate=0.2),
    efficientnet_lite2=dict(width=1.1, depth=1.2, image_size=260, drop_rate=0.3),
    efficientnet_lite3=dict(width=1.2, depth=1.4, image_size=280, drop_rate=0.3),
    efficientnet_lite4=dict(width=1.4, depth=1.8, image_size=300, drop_rate=0.3),
)
def efficientnet_lite(x, *, width: float, depth: float, same_padding: bool = True, drop_path_rate: float = 0.2):
    """Image (B, H, W, 3) -> features (B, 1280); ``width`` and ``depth`` multiply those of the stages in between."""
    return network(x, width, depth, same_padding, drop_path_rate, lite=True)
