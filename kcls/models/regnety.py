"""RegNetY: networks whose widths grow along a line, which is all that a search over whole families left to choose.

Paper: Radosavovic et al., "Designing Network Design Spaces", CVPR 2020, arXiv:2003.13678, Figure 16 and section 5.

    name           blocks of each stage   widths                    group width
    regnety_3_2g   2 5 13 1                72  216  576 1512         24
    regnety_4g     2 6 12 2               128  192  512 1088         64
    regnety_6_4g   2 7 14 2               144  288  576 1296         72
    regnety_8g     2 4 10 1               168  448  896 2016         56
    regnety_16g    2 4 11 1               224  448 1232 3024        112
    regnety_32g    2 5 12 1               232  696 1392 3712        232

A row holds the five numbers that make them: see ``stages``. ``drop_path_rate`` adds the stochastic depth of Huang et
al. 2016, arXiv:1603.09382, linear over the blocks; 0 is the paper. With ``zero_init`` the last gammas of a block start
at 0, as in timm and in the authors' ResNets, but not in their RegNets.
"""

from functools import partial
from itertools import groupby
from math import log

from keras import initializers, layers

from kcls.models.blocks import branch_end, conv_norm_act, squeeze_excite
from kcls.models.layers import DropPath
from kcls.models.registry import linear_head, variants


def stages(depth, initial_width, slope, multiplier, group_width):
    """The (width, number of blocks) of each stage, section 3.3.

    Block j wants initial_width + slope j channels (equation 2), gets the nearest initial_width * multiplier^k with an
    integer k (equations 3 and 4), as a multiple of 8; blocks of one width are a stage. In the end a width is rounded
    to whole groups, if it has more than one.
    """
    widths = []
    for j in range(depth):
        exponent = round(log(1 + slope * j / initial_width) / log(multiplier))
        widths.append(8 * round(initial_width * multiplier**exponent / 8))
    runs = [(width, len(list(run))) for width, run in groupby(widths)]
    group_widths = [min(group_width, width) for width, _ in runs]
    return [(round(width / g) * g, count) for (width, count), g in zip(runs, group_widths, strict=True)]


def block(x, width, stride, group_width, drop_path_rate, name, zero_init=False):
    """ResNet's bottleneck without a bottleneck, in groups: (B, H, W, C) -> (B, H/stride, W/stride, width).

    Squeeze-and-excitation follows the 3x3 convolution and has a quarter of the C channels that came to the block.
    """
    y = conv_norm_act(x, width, 1, name=f"{name}_1")
    y = conv_norm_act(y, width, 3, stride, groups=max(1, width // group_width), name=f"{name}_2")
    y = squeeze_excite(y, round(x.shape[-1] / 4), name=f"{name}_se")
    y = branch_end(y, width, 1, zero_init=zero_init, name=f"{name}_3")
    if drop_path_rate:
        y = DropPath(drop_path_rate, name=f"{name}_drop_path")(y)
    if x.shape != y.shape:
        x = conv_norm_act(x, width, 1, stride, act=None, name=f"{name}_shortcut")
    x = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=f"{name}_relu")(x)


def small():
    """The authors' initialiser of the head: a deviation of 0.01."""
    return initializers.RandomNormal(stddev=0.01)


@variants(
    image_size=224,
    num_classes=1000,
    head=partial(linear_head, init=small),
    regnety_3_2g=dict(depth=21, initial_width=80, slope=42.63, multiplier=2.66, group_width=24),
    regnety_4g=dict(depth=22, initial_width=96, slope=31.41, multiplier=2.24, group_width=64),
    regnety_6_4g=dict(depth=25, initial_width=112, slope=33.22, multiplier=2.27, group_width=72),
    regnety_8g=dict(depth=17, initial_width=192, slope=76.82, multiplier=2.19, group_width=56),
    regnety_16g=dict(depth=18, initial_width=200, slope=106.23, multiplier=2.48, group_width=112),
    regnety_32g=dict(depth=20, initial_width=232, slope=115.89, multiplier=2.53, group_width=232),
)
def regnety(
    x,
    *,
    depth: int,
    initial_width: int,
    slope: float,
    multiplier: float,
    group_width: int,
    drop_path_rate: float = 0.0,
    zero_init: bool = False,
):
    """Image (B, H, W, 3) -> features (B, width of the last stage); every stage starts with stride 2."""
    if min(depth, initial_width, group_width) < 1 or initial_width % 8:
        raise ValueError(
            "depth, initial_width and group_width are 1 or more, initial_width a multiple of 8; "
            f"not {depth}, {initial_width} and {group_width}"
        )
    if slope < 0 or multiplier <= 1:
        raise ValueError(f"widths grow: slope is 0 or more and multiplier above 1, not {slope} and {multiplier}")
    x = conv_norm_act(x, 32, 3, 2, name="stem")
    count = 0
    for s, (width, repeat) in enumerate(stages(depth, initial_width, slope, multiplier, group_width), 1):
        for b in range(1, repeat + 1):
            count += 1
            rate = drop_path_rate * count / depth
            x = block(x, width, 2 if b == 1 else 1, group_width, rate, f"stage{s}_block{b}", zero_init)
    return layers.GlobalAveragePooling2D(name="pool")(x)
