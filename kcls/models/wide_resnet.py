"""Wide ResNet: fewer and wider units.

Paper: Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, arXiv:1605.07146.

    name               units of each stage   unit                                                       images
    wrn_16_8           2 2 2                 pre-activation, two 3x3 that are 8 times as wide           CIFAR, SVHN
    wrn_28_2           4 4 4                 2 times
    wrn_28_10          4 4 4                 10 times
    wrn_40_10          6 6 6                 10 times
    wide_resnet50_2    3 4 6 3               bottleneck of ResNet with a 3x3 that is 2 times as wide    ImageNet
    wide_resnet101_2   3 4 23 3              the same

The depth of a wrn is 6 units + 4: three convolutions of shortcuts count, too. ``block_drop_rate`` is the dropout
between the convolutions of a unit; where the paper has it, it is 0.3 on CIFAR and 0.4 on SVHN.

Differs: convolutions start with a variance of 2 / fan_out, as everywhere here; the authors' code has 2 / fan_in. A unit
of the ImageNet networks starts as its shortcut, as in ``resnet``; ``zero_init=False`` is the paper.
"""

from functools import partial

from keras import layers

from kcls.models.blocks import branch_end, conv, conv_norm_act, dropout, norm_relu
from kcls.models.registry import variants
from kcls.models.resnet import each_unit, projection_where_needed, resnet
from kcls.models.resnetv2 import unit


def wide_basic(x, width, stride, name, drop_rate):
    """3x3 with the stride, dropout, 3x3: activated (B, H, W, C) -> (B, H/stride, W/stride, width)."""
    x = conv(x, width, 3, stride, name=f"{name}_1_conv")
    x = norm_relu(x, f"{name}_2")
    x = dropout(x, drop_rate, name=f"{name}_drop")
    return conv(x, width, 3, name=f"{name}_2_conv")


@variants(
    image_size=32,
    num_classes=10,
    wrn_16_8=dict(units=2, widening=8),
    wrn_28_2=dict(units=4, widening=2),
    wrn_28_10=dict(units=4, widening=10),
    wrn_40_10=dict(units=6, widening=10),
)
def wrn(x, *, units: int, widening: int, width: int = 16, block_drop_rate: float = 0.0):
    """Image (B, H, W, 3) -> features (B, 4 widening width): Table 1."""
    residual = partial(wide_basic, drop_rate=block_drop_rate)
    wide = widening * width
    x = conv(x, width, 3, name="stem_conv")
    for w, stride, _, name in each_unit((units,) * 3, (wide, 2 * wide, 4 * wide)):
        x = unit(x, residual, w, stride, 0.0, name)
    x = norm_relu(x, "last")
    return layers.GlobalAveragePooling2D(name="pool")(x)


def wide_bottleneck(x, width, stride, name, zero_init=False):
    """1x1, 3x3 with the stride, 1x1; the 3x3 is twice as wide as ResNet's: -> (B, H/stride, W/stride, 4 width)."""
    x = conv_norm_act(x, 2 * width, 1, name=f"{name}_1")
    x = conv_norm_act(x, 2 * width, 3, stride, name=f"{name}_2")
    return branch_end(x, 4 * width, 1, zero_init=zero_init, name=f"{name}_3")


@variants(
    image_size=224,
    num_classes=1000,
    wide_resnet50_2=dict(depths=(3, 4, 6, 3)),
    wide_resnet101_2=dict(depths=(3, 4, 23, 3)),
)
def wide_resnet(x, *, depths, width: int = 64, drop_path_rate: float = 0.0, zero_init: bool = True):
    """Image (B, H, W, 3) -> features (B, 32 width)."""
    return resnet(
        x,
        residual=wide_bottleneck,
        shortcut=projection_where_needed,
        depths=depths,
        width=width,
        drop_path_rate=drop_path_rate,
        zero_init=zero_init,
    )
