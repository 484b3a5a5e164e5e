"""SE-BN-Inception: Inception modules with batch norm; squeeze-and-excitation weighs the channels that each puts out.

Paper: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507, Table 2.

The modules are those of Ioffe and Szegedy, "Batch Normalization", ICML 2015, arXiv:1502.03167, Figure 5: two 3x3
convolutions stand where GoogLeNet has a 5x5, and two modules (3c, 4e) halve the map, without a 1x1 branch and with a
pool that is not projected. The stem is conv 7x7/2, pool, conv 1x1, conv 3x3, pool; the modules' widths are in
``INCEPTION`` and ``REDUCTION`` below.

Differs: the widths are those of the authors' network, whose pooled branches in 4c and 4d have 128 channels, not 96. As
there, an averaging window at the edge counts the zeros outside, and a 3x3/2 pool covers the whole map, which on an
even map is TensorFlow's "same".
"""

from keras import layers

from kcls.models.blocks import conv_norm_act, squeeze_excite
from kcls.models.registry import variants

# Widths of the 1x1; of the 1x1 before the 3x3, the 3x3; of the 1x1 before the two 3x3, each of these; of the 1x1 after
# the pool.
INCEPTION = {
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 128),
    "4d": (96, 128, 192, 160, 192, 128),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),
}
# Of the 1x1 before the 3x3/2, the 3x3/2; of the 1x1 before the two 3x3, each of these, the last with stride 2.
REDUCTION = {
    "3c": (128, 160, 64, 96),
    "4e": (128, 192, 192, 256),
}


def average(x, name):
    """Mean of 3x3 windows in which the zeros outside count: (B, H, W, C) -> the same."""
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return layers.AveragePooling2D(3, 1, name=name)(x)


def maximum(x, name, stride=1):
    """Maximum of 3x3 windows: (B, H, W, C) -> (B, H/stride, W/stride, C)."""
    return layers.MaxPooling2D(3, stride, padding="same", name=name)(x)


def triple(x, reduce, width, stride, name):
    """1x1, 3x3: (B, H, W, C) -> (B, H/stride, W/stride, width)."""
    x = conv_norm_act(x, reduce, 1, name=f"{name}_reduce")
    return conv_norm_act(x, width, 3, stride, name=name)


def inception(x, widths, pool, name):
    """1x1, 3x3, twice 3x3 and pooled branches, joined: (B, H, W, C) -> (B, H, W, D), D the sum of their widths."""
    width1, reduce3, width3, reduce33, width33, pooled = widths
    branch1 = conv_norm_act(x, width1, 1, name=f"{name}_1x1")
    branch3 = triple(x, reduce3, width3, 1, f"{name}_3x3")
    branch33 = triple(x, reduce33, width33, 1, f"{name}_double1")
    branch33 = conv_norm_act(branch33, width33, 3, name=f"{name}_double2")
    projected = conv_norm_act(pool(x, f"{name}_pool"), pooled, 1, name=f"{name}_pool_project")
    return layers.Concatenate(name=f"{name}_concat")([branch1, branch3, branch33, projected])


def reduction(x, widths, name):
    """3x3/2, twice 3x3 and pooled branches, joined: (B, H, W, C) -> (B, H/2, W/2, D)."""
    reduce3, width3, reduce33, width33 = widths
    branch3 = triple(x, reduce3, width3, 2, f"{name}_3x3")
    branch33 = triple(x, reduce33, width33, 1, f"{name}_double1")
    branch33 = conv_norm_act(branch33, width33, 3, 2, name=f"{name}_double2")
    return layers.Concatenate(name=f"{name}_concat")([branch3, branch33, maximum(x, f"{name}_pool", 2)])


@variants(
    image_size=224,
    num_classes=1000,
    se_bn_inception=dict(),
)
def bn_inception(x, *, width_multiplier: float = 1.0, se_ratio: float = 1 / 16):
    """Image (B, H, W, 3) -> features (B, 1024).

    ``width_multiplier`` scales all layers; C channels are squeezed to C se_ratio, the paper's 1/r.
    """

    def scaled(width):
        return round(width * width_multiplier)

    x = conv_norm_act(x, scaled(64), 7, 2, name="stem1")
    x = maximum(x, "stem1_pool", 2)
    x = triple(x, scaled(64), scaled(192), 1, "stem2")
    x = maximum(x, "stem2_pool", 2)
    for module in sorted(INCEPTION | REDUCTION):
        name = f"inception{module}"
        if module in REDUCTION:
            x = reduction(x, tuple(map(scaled, REDUCTION[module])), name)
        else:
            pool = maximum if module == "5b" else average
            x = inception(x, tuple(map(scaled, INCEPTION[module])), pool, name)
        x = squeeze_excite(x, int(x.shape[-1] * se_ratio), name=f"{name}_se")
    return layers.GlobalAveragePooling2D(name="pool")(x)
