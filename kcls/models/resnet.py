"""ResNet: units that add their input to their output; and the plain networks without that shortcut.

Paper: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385.

    name                     units of each stage   unit         shortcut    source
    plain18, plain34         2222, 3463            basic        none        section 4.1
    resnet18, resnet34       2222, 3463            basic        B           Table 1
    resnet34_a, resnet34_c   3463                  basic        A, C        Table 3
    resnet50, 101, 152       3463, 3 4 23 3, 3 8 36 3  bottleneck  B        Table 1
    resnet20 ... resnet1202  n n n, depth 6n + 2   basic        A           Table 6 (CIFAR-10)

Differs: resnet50/101/152 stride in their 3x3 convolution, which is the later and more accurate "v1.5";
the rows ending in _v1 stride in their first 1x1 convolution, as the paper's do. With ``zero_init``, a unit starts as
its shortcut, because the last gammas of its residual start at 0 (Goyal et al. 2017, arXiv:1706.02677, section 5.1).
The ImageNet networks and those for CIFAR from resnet56 on have it, where the paper has 1: its resnet110 starts at a
loss of 14 for ten classes, and needed a warm-up at a tenth of the learning rate. The shallower ones for CIFAR keep the
paper's 1: resnet20 learns as well so. ``drop_path_rate`` adds the stochastic depth of Huang et al. 2016,
arXiv:1603.09382, linear over the units; 0 is the paper.
"""

from functools import partial

from keras import layers, ops

from kcls.models.blocks import branch_end, conv_norm_act, max_pool
from kcls.models.layers import DropPath
from kcls.models.registry import variants

# The residual function of a unit: (B, H, W, C) -> (B, H/stride, W/stride, D), before the addition; with ``zero_init``
# it starts as 0.


def basic(x, width, stride, name, zero_init=False):
    """3x3, 3x3; D = width."""
    x = conv_norm_act(x, width, 3, stride, name=f"{name}_1")
    return branch_end(x, width, 3, zero_init=zero_init, name=f"{name}_2")


def bottleneck(x, width, stride, name, zero_init=False):
    """1x1, 3x3 with the stride, 1x1; D = 4 width."""
    x = conv_norm_act(x, width, 1, name=f"{name}_1")
    x = conv_norm_act(x, width, 3, stride, name=f"{name}_2")
    return branch_end(x, 4 * width, 1, zero_init=zero_init, name=f"{name}_3")


def bottleneck_v1(x, width, stride, name, zero_init=False):
    """1x1 with the stride, 3x3, 1x1; D = 4 width."""
    x = conv_norm_act(x, width, 1, stride, name=f"{name}_1")
    x = conv_norm_act(x, width, 3, name=f"{name}_2")
    return branch_end(x, 4 * width, 1, zero_init=zero_init, name=f"{name}_3")


# The shortcut of a unit: input x, residual y -> x in the shape of y (section 3.3, equation 2).


def pad_shortcut(x, y, stride, name):
    """Option A: every stride-th pixel, and zeros for the new channels at the end; no parameters."""
    if stride > 1:
        x = x[:, ::stride, ::stride, :]
    missing = y.shape[-1] - x.shape[-1]
    return ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, missing]]) if missing else x


def projection_where_needed(x, y, stride, name):
    """Option B: a 1x1 convolution where the shape changes, else the identity."""
    return x if x.shape == y.shape else projection(x, y, stride, name)


def projection(x, y, stride, name):
    """Option C: a 1x1 convolution in every unit."""
    return conv_norm_act(x, y.shape[-1], 1, stride, act=None, name=f"{name}_shortcut")


def unit(x, residual, shortcut, width, stride, drop_path_rate, name):
    """ReLU(residual(x) + shortcut(x)): (B, H, W, C) -> (B, H/stride, W/stride, D); no shortcut: a plain unit."""
    y = residual(x, width, stride, name)
    if shortcut:
        if drop_path_rate:
            y = DropPath(drop_path_rate, name=f"{name}_drop_path")(y)
        y = layers.Add(name=f"{name}_add")([shortcut(x, y, stride, name), y])
    return layers.ReLU(name=f"{name}_relu")(y)


def each_unit(depths, widths, drop_path_rate=0.0):
    """The width, stride, drop path rate and name of every unit, in order; stages after the first start with stride 2.

    The rate grows linearly to ``drop_path_rate`` in the last unit.
    """
    if min(depths) < 1:
        raise ValueError(f"the number of units of a stage is 1 or more, not {min(depths)}")
    count = 0
    for s, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
        for u in range(1, depth + 1):
            count += 1
            stride = 2 if s > 1 and u == 1 else 1
            yield width, stride, drop_path_rate * count / sum(depths), f"stage{s}_unit{u}"


def stages(x, residual, shortcut, depths, widths, drop_path_rate, zero_init):
    """All units: (B, H, W, C) -> (B, H/s, W/s, D), s = 2 for each stage after the first."""
    if drop_path_rate and not shortcut:
        raise ValueError("a plain network has no shortcut, so drop_path_rate would have no effect")
    if zero_init and not shortcut:
        raise ValueError("a plain network has no shortcut, so with zero_init nothing would reach its end")
    residual = partial(residual, zero_init=zero_init)
    for width, stride, rate, name in each_unit(depths, widths, drop_path_rate):
        x = unit(x, residual, shortcut, width, stride, rate, name)
    return x


A, B, C = pad_shortcut, projection_where_needed, projection


@variants(
    image_size=224,
    num_classes=1000,
    plain18=dict(residual=basic, shortcut=None, depths=(2, 2, 2, 2), zero_init=False),
    plain34=dict(residual=basic, shortcut=None, depths=(3, 4, 6, 3), zero_init=False),
    resnet18=dict(residual=basic, shortcut=B, depths=(2, 2, 2, 2)),
    resnet34=dict(residual=basic, shortcut=B, depths=(3, 4, 6, 3)),
    resnet34_a=dict(residual=basic, shortcut=A, depths=(3, 4, 6, 3)),
    resnet34_c=dict(residual=basic, shortcut=C, depths=(3, 4, 6, 3)),
    resnet50=dict(residual=bottleneck, shortcut=B, depths=(3, 4, 6, 3)),
    resnet101=dict(residual=bottleneck, shortcut=B, depths=(3, 4, 23, 3)),
    resnet152=dict(residual=bottleneck, shortcut=B, depths=(3, 8, 36, 3)),
    resnet50_v1=dict(residual=bottleneck_v1, shortcut=B, depths=(3, 4, 6, 3)),
    resnet101_v1=dict(residual=bottleneck_v1, shortcut=B, depths=(3, 4, 23, 3)),
    resnet152_v1=dict(residual=bottleneck_v1, shortcut=B, depths=(3, 8, 36, 3)),
)
def resnet(x, *, residual, shortcut, depths, width: int = 64, drop_path_rate: float = 0.0, zero_init: bool = True):
    """Image (B, H, W, 3) -> features (B, C): the ImageNet networks of Table 1."""
    x = conv_norm_act(x, width, 7, 2, name="stem")
    x = max_pool(x, 3, 2, padding=1, name="stem_pool")
    widths = (width, 2 * width, 4 * width, 8 * width)
    x = stages(x, residual, shortcut, depths, widths, drop_path_rate, zero_init)
    return layers.GlobalAveragePooling2D(name="pool")(x)


@variants(
    image_size=32,
    num_classes=10,
    resnet20=dict(units=3),
    resnet32=dict(units=5),
    resnet44=dict(units=7),
    resnet56=dict(units=9, zero_init=True),
    resnet110=dict(units=18, zero_init=True),
    resnet1202=dict(units=200, zero_init=True),
)
def cifar_resnet(x, *, units: int, width: int = 16, drop_path_rate: float = 0.0, zero_init: bool = False):
    """Image (B, H, W, 3) -> features (B, 4 width): the CIFAR-10 networks of section 4.2, depth 6 units + 2."""
    x = conv_norm_act(x, width, 3, name="stem")
    x = stages(x, basic, pad_shortcut, (units,) * 3, (width, 2 * width, 4 * width), drop_path_rate, zero_init)
    return layers.GlobalAveragePooling2D(name="pool")(x)
