"""ResNet v2: norm and ReLU stand before each convolution, so a shortcut carries its input on unchanged.

Paper: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, arXiv:1603.05027.

    name          units of each stage
    resnetv2_50   3 4 6 3
    resnetv2_101  3 4 23 3
    resnetv2_152  3 8 36 3

Its networks for CIFAR, and the units it compares this one with, are in ``identity_mappings``.

Differs: a unit strides in its 3x3 convolution, and already in the first unit of a stage, as timm's do; the paper's
strides in its first 1x1, and that of Keras Applications in the last unit of a stage. ``drop_path_rate`` adds the
stochastic depth of Huang et al. 2016, arXiv:1603.09382, linear over the units; 0 is the paper.
"""

from keras import layers

from kcls.models.blocks import conv, norm_relu
from kcls.models.layers import DropPath
from kcls.models.registry import variants
from kcls.models.resnet import each_unit


def norm_relu_conv(x, width, kernel, stride=1, *, name):
    """Batch norm, ReLU, convolution: (B, H, W, C) -> (B, H/stride, W/stride, width)."""
    return conv(norm_relu(x, name), width, kernel, stride, name=f"{name}_conv")


def bottleneck(x, width, stride, name):
    """1x1, 3x3 with the stride, 1x1: activated (B, H, W, C) -> (B, H/stride, W/stride, 4 width)."""
    x = conv(x, width, 1, name=f"{name}_1_conv")
    x = norm_relu_conv(x, width, 3, stride, name=f"{name}_2")
    return norm_relu_conv(x, 4 * width, 1, name=f"{name}_3")


def unit(x, residual, width, stride, drop_path_rate, name):
    """shortcut(x) + residual(a), where a is x activated: (B, H, W, C) -> (B, H/stride, W/stride, D).

    The shortcut is x itself; where the shape changes, it is a 1x1 convolution of a.
    """
    a = norm_relu(x, f"{name}_1")
    y = residual(a, width, stride, name)
    if x.shape != y.shape:
        x = conv(a, y.shape[-1], 1, stride, name=f"{name}_shortcut_conv")
    if drop_path_rate:
        y = DropPath(drop_path_rate, name=f"{name}_drop_path")(y)
    return layers.Add(name=f"{name}_add")([x, y])


def stem(x, width):
    """7x7 with stride 2, 3x3 maximum with stride 2: (B, H, W, 3) -> (B, H/4, W/4, width)."""
    x = conv(x, width, 7, 2, name="stem_conv")
    # No ReLU has made the map positive, so zeros must not win around it. "same" ignores what is outside, and is
    # symmetric at stride 1: every second of its values is the pool with stride 2.
    x = layers.MaxPooling2D(3, 1, padding="same", name="stem_pool")(x)
    return x[:, ::2, ::2, :]


@variants(
    image_size=224,
    num_classes=1000,
    resnetv2_50=dict(depths=(3, 4, 6, 3)),
    resnetv2_101=dict(depths=(3, 4, 23, 3)),
    resnetv2_152=dict(depths=(3, 8, 36, 3)),
)
def resnetv2(x, *, depths, width: int = 64, drop_path_rate: float = 0.0):
    """Image (B, H, W, 3) -> features (B, 32 width)."""
    x = stem(x, width)
    for w, stride, rate, name in each_unit(depths, (width, 2 * width, 4 * width, 8 * width), drop_path_rate):
        x = unit(x, bottleneck, w, stride, rate, name)
    x = norm_relu(x, "last")
    return layers.GlobalAveragePooling2D(name="pool")(x)
