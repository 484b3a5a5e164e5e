"""SE-Inception-ResNet-v2: residual units whose residual is an Inception module with squeeze-and-excitation.

Paper: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507, Table 2.

The network without squeeze-and-excitation is of Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of
Residual Connections on Learning", AAAI 2017, arXiv:1602.07261.

    part      map of a 299 px image   channels   units   factor of the residual
    stem      35 x 35                 320
    stage 1   35 x 35                 320        10      .17
    stage 2   17 x 17                 1088       20      .1
    stage 3   8 x 8                   2080       10      .2, and 1 in the last unit, which has no ReLU
    last      8 x 8                   1536

Differs: stem, widths, numbers of units, factors and the epsilon 1e-3 are those of the authors' code of
Inception-ResNet-v2; its paper has another stem, half the units and wider maps. The batch norms have a gamma, which that
code leaves out. Nobody published how the squeeze-and-excitation stands in this network: here it is as in SE-ResNet, at
the end of every residual, so that the count of parameters is derived too.
"""

from functools import partial

from keras import layers

from kcls.models import blocks
from kcls.models.blocks import activation, he_normal, squeeze_excite
from kcls.models.registry import variants

norm = partial(blocks.norm, epsilon=1e-3)


def conv(x, width, kernel, stride=1, padding="same", *, name):
    """Convolution without bias, norm, ReLU: (B, H, W, C) -> (B, H', W', width); padding as TensorFlow's."""
    x = layers.Conv2D(
        width,
        kernel,
        strides=stride,
        padding=padding,
        use_bias=False,
        kernel_initializer=he_normal(),
        name=f"{name}_conv",
    )(x)
    x = norm(x, name=f"{name}_norm")
    return activation(x, "relu", name=f"{name}_relu")


def chain(x, widths, kernels, name, stride=1):
    """Convolutions one after another; a stride above 1 is that of the last, which is not padded then."""
    last = len(widths)
    for i, (width, kernel) in enumerate(zip(widths, kernels, strict=True), 1):
        strides = (stride, "valid") if i == last and stride > 1 else (1, "same")
        x = conv(x, width, kernel, *strides, name=f"{name}_{i}")
    return x


# The branches of a residual: for each, the widths and the kernels of its convolutions.
STAGE1 = (((32,), (1,)), ((32, 32), (1, 3)), ((32, 48, 64), (1, 3, 3)))
STAGE2 = (((192,), (1,)), ((128, 160, 192), (1, (1, 7), (7, 1))))
STAGE3 = (((192,), (1,)), ((192, 224, 256), (1, (1, 3), (3, 1))))
# The convolved branches before a stage; a pooled one comes last.
INCEPTION = (((96,), (1,)), ((48, 64), (1, 5)), ((64, 96, 96), (1, 3, 3)))
REDUCTION2 = (((384,), (3,)), ((256, 256, 384), (1, 3, 3)))
REDUCTION3 = (((256, 384), (1, 3)), ((256, 288), (1, 3)), ((256, 288, 320), (1, 3, 3)))


def branches(x, table, scaled, name, stride=1):
    """The outputs of the convolved branches of a module."""
    return [chain(x, scaled(*w), kernels, f"{name}_branch{i}", stride) for i, (w, kernels) in enumerate(table, 1)]


def reduction(x, table, scaled, name):
    """Halves the map: (B, H, W, C) -> (B, (H - 1)/2, (W - 1)/2, D)."""
    pooled = layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x)
    return layers.Concatenate(name=f"{name}_concat")([*branches(x, table, scaled, name, stride=2), pooled])


def unit(x, table, scale, act, se_ratio, scaled, name):
    """Adds ``scale`` times the excited residual, then ReLU if ``act``: (B, H, W, C) -> the same."""
    y = layers.Concatenate(name=f"{name}_concat")(branches(x, table, scaled, name))
    y = layers.Conv2D(x.shape[-1], 1, kernel_initializer=he_normal(), name=f"{name}_project")(y)
    y = squeeze_excite(y, int(x.shape[-1] * se_ratio), name=f"{name}_se")
    x = layers.Add(name=f"{name}_add")([x, scale * y])
    return activation(x, "relu", name=f"{name}_relu") if act else x


def stem(x, scaled):
    """Image (B, H, W, 3) -> (B, about H/8, about W/8, 320)."""
    width1, width2, width3, width4, pooled = scaled(32, 64, 80, 192, 64)
    x = conv(x, width1, 3, 2, "valid", name="stem1")
    x = conv(x, width1, 3, 1, "valid", name="stem2")
    x = conv(x, width2, 3, name="stem3")
    x = layers.MaxPooling2D(3, 2, name="stem3_pool")(x)
    x = conv(x, width3, 1, name="stem4")
    x = conv(x, width4, 3, 1, "valid", name="stem5")
    x = layers.MaxPooling2D(3, 2, name="stem5_pool")(x)
    average = layers.AveragePooling2D(3, 1, padding="same", name="stem6_pool")(x)  # of the pixels inside the map only
    average = conv(average, pooled, 1, name="stem6_pool_project")
    return layers.Concatenate(name="stem6_concat")([*branches(x, INCEPTION, scaled, "stem6"), average])


@variants(
    image_size=299,
    num_classes=1000,
    drop_rate=0.2,
    se_inception_resnet_v2=dict(),
)
def inception_resnet_v2(x, *, units: int = 10, width_multiplier: float = 1.0, se_ratio: float = 1 / 16):
    """Image (B, H, W, 3) -> features (B, 1536).

    The stages have ``units``, 2 ``units`` and ``units`` units; ``width_multiplier`` scales all layers; C channels are
    squeezed to C se_ratio, the paper's 1/r.
    """
    if units < 1:
        raise ValueError(f"the number of units of a stage is 1 or more, not {units}")

    def scaled(*widths):
        return tuple(round(width * width_multiplier) for width in widths)

    x = stem(x, scaled)
    for u in range(1, units + 1):
        x = unit(x, STAGE1, 0.17, True, se_ratio, scaled, f"stage1_unit{u}")
    x = reduction(x, REDUCTION2, scaled, "stage2_reduction")
    for u in range(1, 2 * units + 1):
        x = unit(x, STAGE2, 0.1, True, se_ratio, scaled, f"stage2_unit{u}")
    x = reduction(x, REDUCTION3, scaled, "stage3_reduction")
    for u in range(1, units + 1):
        last = u == units
        x = unit(x, STAGE3, 1.0 if last else 0.2, not last, se_ratio, scaled, f"stage3_unit{u}")
    x = conv(x, scaled(1536)[0], 1, name="last")
    return layers.GlobalAveragePooling2D(name="pool")(x)
