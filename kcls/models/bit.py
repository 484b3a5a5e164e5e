"""BiT (Big Transfer): wide pre-activation ResNets with weight standardisation and group norm, made to be fine-tuned.

Paper: Kolesnikov et al., "Big Transfer (BiT): General Visual Representation Learning", ECCV 2020, arXiv:1912.11370.

    name         units of each stage   width of the stem   image
    bit_r50x1    3 4 6 3               64                  224
    bit_r50x3    3 4 6 3               3 x 64              448
    bit_r101x1   3 4 23 3              64                  224
    bit_r101x3   3 4 23 3              3 x 64              384
    bit_r152x2   3 8 36 3              2 x 64              224
    bit_r152x4   3 8 36 3              4 x 64              480

Every convolution standardises its kernel, that of the stem and those of the shortcuts too. No norm keeps statistics, so
training does not depend on the batch size. The head starts at 0: the first step of a fine-tuning does not disturb the
features. The image sizes are those at which the reference counts were made; the paper fine-tunes at 480 px.
"""

from functools import partial

from keras import initializers, layers

from kcls.models.blocks import he_normal, pad
from kcls.models.layers import StdConv2D
from kcls.models.registry import linear_head, variants


def conv(x, width, kernel, stride=1, *, name):
    """Standardised convolution: (B, H, W, C) -> (B, H/stride, W/stride, width)."""
    x, mode = pad(x, None, kernel, stride, name)
    return StdConv2D(
        width, kernel, strides=stride, padding=mode, use_bias=False, kernel_initializer=he_normal(), name=name
    )(x)


def norm_relu(x, num_groups, name):
    """Group norm, Wu and He 2018, arXiv:1803.08494, and ReLU: (B, H, W, C) -> the same."""
    x = layers.GroupNormalization(num_groups, epsilon=1e-5, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def unit(x, width, stride, project, num_groups, name):
    """Pre-activation bottleneck with the stride in its 3x3: (B, H, W, C) -> (B, H/stride, W/stride, 4 width).

    Where the shape changes, the shortcut is a projection, which reads the activated input as the 1x1 does.
    """
    activated = norm_relu(x, num_groups, f"{name}_1")
    shortcut = conv(activated, 4 * width, 1, stride, name=f"{name}_shortcut_conv") if project else x
    y = conv(activated, width, 1, name=f"{name}_1_conv")
    y = norm_relu(y, num_groups, f"{name}_2")
    y = conv(y, width, 3, stride, name=f"{name}_2_conv")
    y = norm_relu(y, num_groups, f"{name}_3")
    y = conv(y, 4 * width, 1, name=f"{name}_3_conv")
    return layers.Add(name=f"{name}_add")([shortcut, y])


@variants(
    image_size=224,
    num_classes=1000,
    head=partial(linear_head, init=initializers.Zeros),
    bit_r50x1=dict(depths=(3, 4, 6, 3), width=64),
    bit_r50x3=dict(depths=(3, 4, 6, 3), width=192, image_size=448),
    bit_r101x1=dict(depths=(3, 4, 23, 3), width=64),
    bit_r101x3=dict(depths=(3, 4, 23, 3), width=192, image_size=384),
    bit_r152x2=dict(depths=(3, 8, 36, 3), width=128),
    bit_r152x4=dict(depths=(3, 8, 36, 3), width=256, image_size=480),
)
def bit(x, *, depths, width: int, num_groups: int = 32):
    """Image (B, H, W, 3) -> features (B, 32 width)."""
    x = conv(x, width, 7, 2, name="stem_conv")
    # Nothing is activated yet, so these zeros can be the maximum. PyTorch's own padding is minus infinity.
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    for s, depth in enumerate(depths, 1):
        for u in range(1, depth + 1):
            stride = 2 if s > 1 and u == 1 else 1
            x = unit(x, width * 2 ** (s - 1), stride, u == 1, num_groups, f"stage{s}_unit{u}")
    x = norm_relu(x, num_groups, "last")
    return layers.GlobalAveragePooling2D(name="pool")(x)
