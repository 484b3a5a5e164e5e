"""SENet: residual networks whose units weigh their channels by what the whole map shows, before the addition.

Paper: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507.

    name                      units of each stage            residual of a unit              source
    seresnet50, 101, 152      3463, 3 4 23 3, 3 8 36 3       1x1, 3x3, 1x1                   Table 2
    seresnext50, 101_32x4d    3463, 3 4 23 3                 the 3x3 in 32 groups, wider     Table 2
    senet154                  3 8 36 3                       the 3x3 in 64 groups, wider     appendix

Differs: as in the later versions of these networks, the first pool is symmetric, and seresnet50/101/152 stride in
their 3x3 convolution ("v1.5"). The rows ending in _v1 are the authors' Caffe networks: stride in the first 1x1
convolution, and a pool without padding that rounds its size up. As in the authors' networks, but not in their text,
the squeezing layers have biases. A unit starts as its shortcut, as in ``resnet``; with ``zero_init=False`` the last
gammas of its residual start at 1; the paper does not say. ``se_ratio`` is the paper's 1/r (Table 10), and
``drop_path_rate`` adds stochastic depth, arXiv:1603.09382, linear over the units; 0 is the paper.
"""

from functools import partial

from keras import layers

from kcls.models.blocks import branch_end, conv_norm_act, covering_pool, max_pool, squeeze_excite
from kcls.models.registry import variants
from kcls.models.resnet import bottleneck, bottleneck_v1, projection_where_needed, stages

# The residual function of a unit without squeeze-and-excitation: (B, H, W, C) -> (B, H/stride, W/stride, 4 width);
# the others are in resnet.py.


def resnext(x, width, stride, name, cardinality, zero_init=False):
    """1x1, 3x3 in groups of channels with the stride, 1x1: twice ResNet's width inside, for about its cost."""
    x = conv_norm_act(x, 2 * width, 1, name=f"{name}_1")
    x = conv_norm_act(x, 2 * width, 3, stride, groups=cardinality, name=f"{name}_2")
    return branch_end(x, 4 * width, 1, zero_init=zero_init, name=f"{name}_3")


def senet154_bottleneck(x, width, stride, name, cardinality, zero_init=False):
    """1x1, 3x3 in groups of channels with the stride, 1x1; the first of half the width, to save its cost."""
    x = conv_norm_act(x, 2 * width, 1, name=f"{name}_1")
    x = conv_norm_act(x, 4 * width, 3, stride, groups=cardinality, name=f"{name}_2")
    return branch_end(x, 4 * width, 1, zero_init=zero_init, name=f"{name}_3")


def projection_3x3(x, y, stride, name):
    """Shortcut where the shape changes: a 3x3 convolution, which loses no pixel by its stride; 1x1 without stride."""
    if x.shape == y.shape:
        return x
    return conv_norm_act(x, y.shape[-1], 3 if stride > 1 else 1, stride, act=None, name=f"{name}_shortcut")


def excited(residual, se_ratio):
    """A residual function that ends in squeeze-and-excitation; C channels are squeezed to C se_ratio."""

    def with_excitation(x, width, stride, name, zero_init=False):
        y = residual(x, width, stride, name, zero_init=zero_init)
        return squeeze_excite(y, int(y.shape[-1] * se_ratio), name=f"{name}_se")

    return with_excitation


# The first layers: image (B, H, W, 3) -> (B, H/4, W/4, C).


def stem_7x7(x, width):
    """7x7, max pool; C = width."""
    x = conv_norm_act(x, width, 7, 2, name="stem")
    return max_pool(x, 3, 2, padding=1, name="stem_pool")


def stem_7x7_v1(x, width):
    """7x7, max pool as in Caffe; C = width."""
    x = conv_norm_act(x, width, 7, 2, name="stem")
    return covering_pool(x, name="stem_pool")


def stem_3x3(x, width):
    """Three 3x3, max pool; C = 2 width."""
    x = conv_norm_act(x, width, 3, 2, name="stem_1")
    x = conv_norm_act(x, width, 3, name="stem_2")
    x = conv_norm_act(x, 2 * width, 3, name="stem_3")
    return max_pool(x, 3, 2, padding=1, name="stem_pool")


def senet(x, residual, shortcut, depths, width, se_ratio, drop_path_rate, zero_init):
    """Output of a stem (B, H, W, C) -> features (B, 32 width)."""
    widths = (width, 2 * width, 4 * width, 8 * width)
    x = stages(x, excited(residual, se_ratio), shortcut, depths, widths, drop_path_rate, zero_init)
    return layers.GlobalAveragePooling2D(name="pool")(x)


B = projection_where_needed  # option B of the ResNet paper


@variants(
    image_size=224,
    num_classes=1000,
    seresnet50=dict(stem=stem_7x7, residual=bottleneck, depths=(3, 4, 6, 3)),
    seresnet101=dict(stem=stem_7x7, residual=bottleneck, depths=(3, 4, 23, 3)),
    seresnet152=dict(stem=stem_7x7, residual=bottleneck, depths=(3, 8, 36, 3)),
    seresnet50_v1=dict(stem=stem_7x7_v1, residual=bottleneck_v1, depths=(3, 4, 6, 3)),
    seresnet101_v1=dict(stem=stem_7x7_v1, residual=bottleneck_v1, depths=(3, 4, 23, 3)),
    seresnet152_v1=dict(stem=stem_7x7_v1, residual=bottleneck_v1, depths=(3, 8, 36, 3)),
)
def seresnet(
    x,
    *,
    stem,
    residual,
    depths,
    width: int = 64,
    se_ratio: float = 1 / 16,
    drop_path_rate: float = 0.0,
    zero_init: bool = True,
):
    """Image (B, H, W, 3) -> features (B, 32 width)."""
    x = stem(x, width)
    return senet(x, residual, B, depths, width, se_ratio, drop_path_rate, zero_init)


@variants(
    image_size=224,
    num_classes=1000,
    seresnext50_32x4d=dict(stem=stem_7x7, residual=resnext, shortcut=B, depths=(3, 4, 6, 3), cardinality=32),
    seresnext101_32x4d=dict(stem=stem_7x7, residual=resnext, shortcut=B, depths=(3, 4, 23, 3), cardinality=32),
    senet154=dict(
        stem=stem_3x3,
        residual=senet154_bottleneck,
        shortcut=projection_3x3,
        depths=(3, 8, 36, 3),
        cardinality=64,
        drop_rate=0.2,
    ),
)
def seresnext(
    x,
    *,
    stem,
    residual,
    shortcut,
    depths,
    cardinality: int,
    width: int = 64,
    se_ratio: float = 1 / 16,
    drop_path_rate: float = 0.0,
    zero_init: bool = True,
):
    """Image (B, H, W, 3) -> features (B, 32 width); cardinality is the number of groups."""
    x = stem(x, width)
    residual = partial(residual, cardinality=cardinality)
    return senet(x, residual, shortcut, depths, width, se_ratio, drop_path_rate, zero_init)
