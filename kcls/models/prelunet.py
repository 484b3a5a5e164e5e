"""PReLU-nets: very deep plain networks that learn the slope of their activations, and the start that trains them.

Paper: He et al., "Delving Deep into Rectifiers: Surpassing Human-Level Performance on ImageNet Classification",
ICCV 2015, arXiv:1502.01852, Table 3.

    name         stem       each of 3 stages      widths
    prelunet_a   7x7/2 96   5 convolutions 3x3    256, 512, 512
    prelunet_b   7x7/2 96   6 convolutions 3x3    256, 512, 512
    prelunet_c   7x7/2 96   6 convolutions 3x3    384, 768, 896

A 2x2 pool stands before each stage. Then comes the spatial pyramid pooling of He et al. 2014, arXiv:1406.4729, with
7x7, 3x3, 2x2 and 1x1 bins, and two fully connected layers with dropout 0.5. Every activation is PReLU with one slope
a channel that starts at 0.25 (section 2.1) and must not be decayed. Kernels start with variance
2 / ((1 + 0.25^2) fan_out), equation 15 with equation 14.
"""

from keras import initializers, layers, ops

from kcls.models.blocks import conv, dropout
from kcls.models.registry import variants

SLOPE = 0.25


def he_normal():
    """The normal distribution that keeps the scale of the gradients through PReLU with the first slope."""
    return initializers.VarianceScaling(2 / (1 + SLOPE**2), mode="fan_out", distribution="untruncated_normal")


def prelu(x, name):
    """Scales what is negative by a learned slope, one a channel: (B, ..., C) -> the same; equation 1."""
    shared = list(range(1, len(x.shape) - 1)) or None
    return layers.PReLU(alpha_initializer=initializers.Constant(SLOPE), shared_axes=shared, name=name)(x)


def conv_prelu(x, width, kernel, stride=1, *, name):
    """Convolution, PReLU: (B, H, W, C) -> (B, H/stride, W/stride, width)."""
    x = conv(x, width, kernel, stride, use_bias=True, kernel_initializer=he_normal(), name=f"{name}_conv")
    return prelu(x, name=f"{name}_prelu")


def dense_prelu(x, width, name):
    """Fully connected layer, PReLU: (B, C) -> (B, width)."""
    x = layers.Dense(width, kernel_initializer=he_normal(), name=name)(x)
    return prelu(x, name=f"{name}_prelu")


def bin_pool(x, bins, name):
    """Maximum of each of bins x bins regions that cover the map: (B, H, H, C) -> (B, bins, bins, C).

    Region i spans floor(i H / bins) to ceil((i + 1) H / bins): regions share pixels where bins does not divide H.
    """
    size = x.shape[1]
    if size % bins == 0:
        return layers.MaxPooling2D(size // bins, name=name)(x)
    regions = [(i * size // bins, -(-(i + 1) * size // bins)) for i in range(bins)]
    x = ops.stack([ops.max(x[:, start:end], axis=1) for start, end in regions], axis=1)
    return ops.stack([ops.max(x[:, :, start:end], axis=2) for start, end in regions], axis=2)


def pyramid_pool(x, levels, name):
    """The bins of all levels, one after another: (B, H, H, C) -> (B, C sum of levels^2)."""
    flat = [layers.Flatten(name=f"{name}{bins}_flatten")(bin_pool(x, bins, f"{name}{bins}")) for bins in levels]
    return layers.Concatenate(name=f"{name}_concat")(flat)


@variants(
    image_size=224,
    num_classes=1000,
    drop_rate=0.5,
    prelunet_a=dict(depth=5, widths=(96, 256, 512, 512)),
    prelunet_b=dict(depth=6, widths=(96, 256, 512, 512)),
    prelunet_c=dict(depth=6, widths=(96, 384, 768, 896)),
)
def prelunet(x, *, depth, widths, width_multiplier: float = 1.0, fc_width: int = 4096, fc_drop_rate: float = 0.5):
    """Image (B, H, W, 3) -> features (B, fc_width).

    ``width_multiplier`` scales all convolutions; ``fc_drop_rate`` is of fc1, and the frame's of fc2.
    """
    stem, *stages = (round(width * width_multiplier) for width in widths)
    x = conv_prelu(x, stem, 7, 2, name="stem")
    for s, width in enumerate(stages, 1):
        x = layers.MaxPooling2D(2, name=f"stage{s}_pool")(x)
        for i in range(1, depth + 1):
            x = conv_prelu(x, width, 3, name=f"stage{s}_{i}")
    x = pyramid_pool(x, (7, 3, 2, 1), name="pyramid")
    x = dense_prelu(x, fc_width, name="fc1")
    x = dropout(x, fc_drop_rate, name="fc1_drop")
    return dense_prelu(x, fc_width, name="fc2")
