"""MobileNetV2: inverted residuals, which connect narrow maps and compute in wide ones, for phones.

Paper: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, arXiv:1801.04381, Table 2.

    name               width
    mobilenet_v2       1.0
    mobilenet_v2_050   0.5
    mobilenet_v2_140   1.4

Differs: padding is symmetric and the batch norms have the house numbers, as in the weights that were trained in
PyTorch; the authors' TensorFlow code has "same" padding (``same_padding=True``), an epsilon of 1e-3 and a momentum of
0.997. Kernels start with the variance 2 / fan-out; the authors' with a deviation of 0.09. The dropout of 0.2 before the
head is of the authors' code.
"""

from functools import partial

from keras import layers

from kcls.models.blocks import Padding, conv_norm_act, inverted_residual, round_width
from kcls.models.registry import variants

# Table 2: expansion, width, number of blocks, stride of the first block, of each stage.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@variants(
    image_size=224,
    num_classes=1000,
    drop_rate=0.2,
    mobilenet_v2=dict(width=1.0),
    mobilenet_v2_050=dict(width=0.5),
    mobilenet_v2_140=dict(width=1.4),
)
def mobilenet_v2(x, *, width: float, same_padding: bool = False):
    """Image (B, H, W, 3) -> features (B, 1280 width); a ``width`` below 1 leaves them at 1280, as section 5 says."""
    if not width > 0:
        raise ValueError(f"width is a multiplier above 0, not {width}")
    padding: Padding = "same" if same_padding else None
    block = partial(inverted_residual, act="relu6", padding=padding)
    x = conv_norm_act(x, round_width(32 * width), 3, 2, padding=padding, act="relu6", name="stem")
    for s, (expansion, channels, repeat, first_stride) in enumerate(STAGES, 1):
        for b in range(1, repeat + 1):
            stride = first_stride if b == 1 else 1
            expanded = x.shape[-1] * expansion
            x = block(x, round_width(channels * width), 3, stride, expanded=expanded, name=f"stage{s}_block{b}")
    x = conv_norm_act(x, round_width(1280 * max(width, 1.0)), 1, act="relu6", name="last")
    return layers.GlobalAveragePooling2D(name="pool")(x)
