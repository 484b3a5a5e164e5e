"""DenseNet: every unit reads the outputs of all units before it, and adds a few channels to them.

Paper: Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, arXiv:1608.06993.

    name                                growth rate k   units of each stage     unit         source
    densenet121                         32              6 12 24 16              bottleneck   Table 1
    densenet169                         32              6 12 32 32              bottleneck   Table 1
    densenet201                         32              6 12 48 32              bottleneck   Table 1
    densenet264                         32              6 12 64 48              bottleneck   Table 1
    densenet161                         48              6 12 36 24              bottleneck   the authors' repository
    densenet_depth_k                    12, 12, 24      n n n, depth 3 n + 4    plain        Table 2 (CIFAR)
    densenet_bc_depth_k                 12, 24, 40      n n n, depth 6 n + 4    bottleneck   Table 2 (CIFAR)

A stage is the paper's dense block, a unit its layer H. ``block_drop_rate`` drops values after every convolution but
the first, as the paper does (rate 0.2) where it trains without augmentation; 0 is the ImageNet network.
"""

from keras import layers

from kcls.models.blocks import conv, conv_norm_act, dropout, max_pool, norm_relu
from kcls.models.registry import variants


def norm_act_conv(x, width, kernel, drop_rate, name):
    """Batch norm, ReLU, convolution, dropout: (B, H, W, C) -> (B, H, W, width)."""
    x = conv(norm_relu(x, name), width, kernel, name=f"{name}_conv")
    return dropout(x, drop_rate, name=f"{name}_drop")


# What a unit adds to the channels it reads: (B, H, W, C) -> (B, H, W, growth_rate).


def plain(x, growth_rate, drop_rate, name):
    """3x3."""
    return norm_act_conv(x, growth_rate, 3, drop_rate, f"{name}_1")


def bottleneck(x, growth_rate, drop_rate, name):
    """1x1 to 4 growth_rate channels, 3x3: cheaper where x has many more channels than that (the B of DenseNet-BC)."""
    x = norm_act_conv(x, 4 * growth_rate, 1, drop_rate, f"{name}_1")
    return norm_act_conv(x, growth_rate, 3, drop_rate, f"{name}_2")


def unit(x, new_features, growth_rate, drop_rate, name):
    """Appends its new channels: (B, H, W, C) -> (B, H, W, C + growth_rate).

    The running concatenation is handed on. A list of all outputs before would be the same network, but
    its graph, and the sums in its gradient, would grow with the square of the depth.
    """
    y = new_features(x, growth_rate, drop_rate, name)
    return layers.Concatenate(name=f"{name}_concat")([x, y])


def transition(x, compression, drop_rate, name):
    """Fewer channels and half the size: (B, H, W, C) -> (B, H/2, W/2, C compression), both rounded down."""
    x = norm_act_conv(x, int(x.shape[-1] * compression), 1, drop_rate, name)
    return layers.AveragePooling2D(2, name=f"{name}_pool")(x)


def stages(x, new_features, depths, growth_rate, compression, drop_rate):
    """All units, a transition between two stages, and the final norm and ReLU: (B, H, W, C) -> (B, H/s, W/s, D)."""
    if min(depths) < 1:
        raise ValueError(f"the number of units of a stage is 1 or more, not {min(depths)}")
    if not 0 < compression <= 1:
        raise ValueError(f"compression is a fraction above 0, up to 1, not {compression}")
    for s, depth in enumerate(depths, 1):
        if s > 1:
            x = transition(x, compression, drop_rate, f"transition{s - 1}")
        for u in range(1, depth + 1):
            x = unit(x, new_features, growth_rate, drop_rate, f"stage{s}_unit{u}")
    return norm_relu(x, "final")


@variants(
    image_size=224,
    num_classes=1000,
    densenet121=dict(depths=(6, 12, 24, 16)),
    densenet161=dict(depths=(6, 12, 36, 24), growth_rate=48),
    densenet169=dict(depths=(6, 12, 32, 32)),
    densenet201=dict(depths=(6, 12, 48, 32)),
    densenet264=dict(depths=(6, 12, 64, 48)),
)
def densenet(x, *, depths, growth_rate: int = 32, compression: float = 0.5, block_drop_rate: float = 0.0):
    """Image (B, H, W, 3) -> features (B, C): the ImageNet networks of Table 1, all DenseNet-BC."""
    x = conv_norm_act(x, 2 * growth_rate, 7, 2, name="stem")
    x = max_pool(x, 3, 2, padding=1, name="stem_pool")
    x = stages(x, bottleneck, depths, growth_rate, compression, block_drop_rate)
    return layers.GlobalAveragePooling2D(name="pool")(x)


@variants(
    image_size=32,
    num_classes=10,
    densenet_40_12=dict(units=12, growth_rate=12),
    densenet_100_12=dict(units=32, growth_rate=12),
    densenet_100_24=dict(units=32, growth_rate=24),
)
def cifar_densenet(x, *, units: int, growth_rate: int, compression: float = 1.0, block_drop_rate: float = 0.0):
    """Image (B, H, W, 3) -> features (B, C): the plain CIFAR networks of section 4, depth 3 units + 4."""
    x = conv(x, 16, 3, name="stem_conv")
    x = stages(x, plain, (units,) * 3, growth_rate, compression, block_drop_rate)
    return layers.GlobalAveragePooling2D(name="pool")(x)


@variants(
    image_size=32,
    num_classes=10,
    densenet_bc_100_12=dict(units=16, growth_rate=12),
    densenet_bc_250_24=dict(units=41, growth_rate=24),
    densenet_bc_190_40=dict(units=31, growth_rate=40),
)
def cifar_densenet_bc(x, *, units: int, growth_rate: int, compression: float = 0.5, block_drop_rate: float = 0.0):
    """Image (B, H, W, 3) -> features (B, C): the CIFAR networks with bottlenecks and compression, depth 6 units + 4."""
    x = conv(x, 2 * growth_rate, 3, name="stem_conv")
    x = stages(x, bottleneck, (units,) * 3, growth_rate, compression, block_drop_rate)
    return layers.GlobalAveragePooling2D(name="pool")(x)
