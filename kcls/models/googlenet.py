"""GoogLeNet: nine Inception modules, each of four branches side by side, and two auxiliary heads for training.

Paper: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, arXiv:1409.4842, Table 1.

The stem is conv 7x7/2, pool, norm, conv 1x1, conv 3x3, norm, pool; the modules are those of ``INCEPTION`` below. The
norm is AlexNet's local response norm. Pools that shrink are 3x3/2 and cover the whole map: 112, 56, 28, 14, 7.
Convolutions have biases and no batch norm.

The auxiliary heads see the outputs of 4a and 4d. Their losses count 0.3 each, in training only: the model's answer
is the logits of the main head.

Differs: where the paper is silent, the numbers are those of its Caffe model, bvlc_googlenet: the norm's bias 1 and
alpha 1e-4 of the mean square, kernels that start with the variance 1 / fan_in, biases that start at 0.2, pixels of
0..255 less ImageNet's mean: on -1..1 the biases would drown the image. Without batch norm, the usual 2 / fan_out would
make the maps grow a million times, because so many 1x1 convolutions narrow them.
"""

from typing import Any

from keras import initializers, layers

from kcls.models.blocks import activation, conv, covering_pool, dropout, local_response_norm, max_pool
from kcls.models.registry import BYTE, IMAGENET_MEAN, variants

# Table 1: widths of the 1x1; the 1x1 before the 3x3, the 3x3; the 1x1 before the 5x5, the 5x5; the 1x1 after the pool.
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
FIRST_BIAS = 0.2
POOL_AFTER = ("3b", "4e")
AUXILIARY_AFTER = ("4a", "4d")


def xavier():
    """Caffe's filler of that name: uniform, with the variance 1 / fan_in."""
    return initializers.VarianceScaling(1.0, mode="fan_in", distribution="uniform")


def conv_relu(x, width, kernel, stride=1, *, name):
    """Convolution, ReLU: (B, H, W, C) -> (B, H/stride, W/stride, width)."""
    x = conv(
        x,
        width,
        kernel,
        stride,
        use_bias=True,
        kernel_initializer=xavier(),
        bias_initializer=initializers.Constant(FIRST_BIAS),
        name=f"{name}_conv",
    )
    return activation(x, "relu", name=f"{name}_relu")


def norm(x):
    """Local response norm with Caffe's numbers: its alpha is a factor of the mean of 5 squares."""
    return local_response_norm(x, bias=1.0, alpha=1e-4 / 5)


def inception(x, widths, name):
    """1x1, 3x3, 5x5 and pooled branches, joined: (B, H, W, C) -> (B, H, W, D), D the sum of their widths; Figure 2b."""
    width1, reduce3, width3, reduce5, width5, pooled = widths
    branch1 = conv_relu(x, width1, 1, name=f"{name}_1x1")
    branch3 = conv_relu(x, reduce3, 1, name=f"{name}_3x3_reduce")
    branch3 = conv_relu(branch3, width3, 3, name=f"{name}_3x3")
    branch5 = conv_relu(x, reduce5, 1, name=f"{name}_5x5_reduce")
    branch5 = conv_relu(branch5, width5, 5, name=f"{name}_5x5")
    pool = max_pool(x, 3, 1, padding=1, name=f"{name}_pool")
    pool = conv_relu(pool, pooled, 1, name=f"{name}_pool_project")
    return layers.Concatenate(name=f"{name}_concat")([branch1, branch3, branch5, pool])


def auxiliary(x, width, fc_width, drop_rate, name):
    """Features of an auxiliary head, section 5: (B, H, W, C) -> (B, fc_width)."""
    x = layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)
    x = conv_relu(x, width, 1, name=f"{name}_1x1")
    x = layers.Flatten(name=f"{name}_flatten")(x)
    first = dict(kernel_initializer=xavier(), bias_initializer=initializers.Constant(FIRST_BIAS))
    x = layers.Dense(fc_width, **first, name=f"{name}_fc")(x)
    x = activation(x, "relu", name=f"{name}_fc_relu")
    return dropout(x, drop_rate, name=f"{name}_drop")


@variants(
    image_size=224,
    num_classes=1000,
    drop_rate=0.4,
    mean=IMAGENET_MEAN,
    std=BYTE,
    googlenet=dict(),
)
def googlenet(x, *, width_multiplier: float = 1.0, auxiliary_drop_rate: float = 0.7):
    """Image (B, H, W, 3) -> features (B, 1024), and those of the two auxiliary heads (B, 1024).

    ``width_multiplier`` scales all layers.
    """

    def scaled(width):
        return round(width * width_multiplier)

    x = conv_relu(x, scaled(64), 7, 2, name="stem1")
    x = covering_pool(x, name="stem1_pool")
    x = norm(x)
    x = conv_relu(x, scaled(64), 1, name="stem2_reduce")
    x = conv_relu(x, scaled(192), 3, name="stem2")
    x = norm(x)
    x = covering_pool(x, name="stem2_pool")
    others: list[Any] = []
    for module, widths in INCEPTION.items():
        x = inception(x, tuple(map(scaled, widths)), name=f"inception{module}")
        if module in AUXILIARY_AFTER:
            name = f"auxiliary{len(others) + 1}"
            others.append(auxiliary(x, scaled(128), scaled(1024), auxiliary_drop_rate, name))
        if module in POOL_AFTER:
            x = covering_pool(x, name=f"inception{module}_out_pool")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return x, *others
