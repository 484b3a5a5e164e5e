"""VGG: nothing but 3x3 convolutions and 2x2 pools, deep, then three fully connected layers.

Paper: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
arXiv:1409.1556, Table 1.

    name       convolutions of each stage   column
    vgg11      1 1 2 2 2                    A
    vgg13      2 2 2 2 2                    B
    vgg16      2 2 3 3 3                    D
    vgg19      2 2 4 4 4                    E
    vgg16_bn   as vgg16                     with batch norm after each convolution; not in the paper
    vgg19_bn   as vgg19                     the same

Differs: the kernels start as He et al. 2015 have it, and the fully connected ones as Glorot and Bengio 2010, which
the paper names too; the authors began the deep networks with the trained layers of the shallow one. The
convolutions of the networks with batch norm have a bias as well, which the norm takes away again: their published
weights have one.
"""

from keras import layers

from kcls.models.blocks import activation, conv, dropout, max_pool, norm
from kcls.models.registry import variants


def conv_relu(x, width, norm, name):
    """3x3 convolution, norm if there is one, ReLU: (B, H, W, C) -> (B, H, W, width)."""
    x = conv(x, width, 3, use_bias=True, name=f"{name}_conv")
    if norm:
        x = norm(x, name=f"{name}_norm")
    return activation(x, "relu", name=f"{name}_relu")


def dense_relu(x, width, name):
    """Fully connected layer, ReLU: (B, C) -> (B, width)."""
    x = layers.Dense(width, name=name)(x)
    return activation(x, "relu", name=f"{name}_relu")


@variants(
    image_size=224,
    num_classes=1000,
    drop_rate=0.5,
    vgg11=dict(depths=(1, 1, 2, 2, 2), norm=None),
    vgg13=dict(depths=(2, 2, 2, 2, 2), norm=None),
    vgg16=dict(depths=(2, 2, 3, 3, 3), norm=None),
    vgg19=dict(depths=(2, 2, 4, 4, 4), norm=None),
    vgg16_bn=dict(depths=(2, 2, 3, 3, 3), norm=norm),
    vgg19_bn=dict(depths=(2, 2, 4, 4, 4), norm=norm),
)
def vgg(x, *, depths, norm, width: int = 64, fc_width: int = 4096, fc_drop_rate: float = 0.5):
    """Image (B, H, W, 3) -> features (B, fc_width). ``fc_drop_rate`` is of fc6, and the frame's of fc7."""
    widths = (width, 2 * width, 4 * width, 8 * width, 8 * width)
    for s, (depth, stage_width) in enumerate(zip(depths, widths, strict=True), 1):
        for i in range(1, depth + 1):
            x = conv_relu(x, stage_width, norm, f"stage{s}_{i}")
        x = max_pool(x, 2, 2, name=f"stage{s}_pool")
    x = layers.Flatten(name="flatten")(x)
    x = dense_relu(x, fc_width, name="fc6")
    x = dropout(x, fc_drop_rate, name="fc6_drop")
    return dense_relu(x, fc_width, name="fc7")
