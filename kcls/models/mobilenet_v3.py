"""MobileNetV3: searched inverted residuals with cheap gates, and a last layer that works behind the pool.

Paper: Howard et al., "Searching for MobileNetV3", ICCV 2019, arXiv:1905.02244.

    name                 blocks   features   source
    mobilenet_v3_large   15       1280       Table 1
    mobilenet_v3_small   11       1024       Table 2

Differs: padding is symmetric and the batch norms' epsilon 1e-5, as in the weights that were trained in PyTorch; the
authors' TensorFlow code has "same" padding (``same_padding=True``) and 1e-3. As in that code, the last 1x1 convolution
of the small network has no squeeze-and-excitation. Kernels start with the variance 2 / fan-out; the authors' with a
deviation of 0.09. The "dropout of 0.8" of section 6.1 is what is kept.
"""

from functools import partial

from keras import layers

from kcls.models import blocks
from kcls.models.blocks import Padding, activation, conv_norm_act, he_normal, inverted_residual, round_width
from kcls.models.registry import variants

norm = partial(blocks.norm, momentum=0.99)  # section 6.1

RE, HS = "relu", "hard_silu"  # h-swish: x relu6(x + 3) / 6

# Tables 1 and 2: kernel, expanded width, width, squeeze-and-excitation, activation, stride, of each block.
LARGE = (
    (3, 16, 16, False, RE, 1),
    (3, 64, 24, False, RE, 2),
    (3, 72, 24, False, RE, 1),
    (5, 72, 40, True, RE, 2),
    (5, 120, 40, True, RE, 1),
    (5, 120, 40, True, RE, 1),
    (3, 240, 80, False, HS, 2),
    (3, 200, 80, False, HS, 1),
    (3, 184, 80, False, HS, 1),
    (3, 184, 80, False, HS, 1),
    (3, 480, 112, True, HS, 1),
    (3, 672, 112, True, HS, 1),
    (5, 672, 160, True, HS, 2),
    (5, 960, 160, True, HS, 1),
    (5, 960, 160, True, HS, 1),
)
SMALL = (
    (3, 16, 16, True, RE, 2),
    (3, 72, 24, False, RE, 2),
    (3, 88, 24, False, RE, 1),
    (5, 96, 40, True, HS, 2),
    (5, 240, 40, True, HS, 1),
    (5, 240, 40, True, HS, 1),
    (5, 120, 48, True, HS, 1),
    (5, 144, 48, True, HS, 1),
    (5, 288, 96, True, HS, 2),
    (5, 576, 96, True, HS, 1),
    (5, 576, 96, True, HS, 1),
)


@variants(
    image_size=224,
    num_classes=1000,
    drop_rate=0.2,
    mobilenet_v3_large=dict(table=LARGE, features=1280),
    mobilenet_v3_small=dict(table=SMALL, features=1024),
)
def mobilenet_v3(x, *, table, features: int, width: float = 1.0, same_padding: bool = False):
    """Image (B, H, W, 3) -> features (B, features); ``width`` multiplies all other widths."""
    if not (width > 0 and features > 0):
        raise ValueError(f"width and features are above 0, not {width} and {features}")
    padding: Padding = "same" if same_padding else None
    x = conv_norm_act(x, round_width(16 * width), 3, 2, padding=padding, norm=norm, act=HS, name="stem")
    before, stage, number = 16, 0, 0
    for kernel, expanded, channels, excited, act, stride in table:
        # A stage is a run of blocks of one width.
        stage, number = (stage, number + 1) if stage and channels == before else (stage + 1, 1)
        expanded = round_width(x.shape[-1] * expanded / before)
        x = inverted_residual(
            x,
            round_width(channels * width),
            kernel,
            stride,
            expanded=expanded,
            act=act,
            padding=padding,
            norm=norm,
            se_hidden=round_width(expanded / 4) if excited else 0,
            se_gate="hard_sigmoid",
            name=f"stage{stage}_block{number}",
        )
        before = channels
    x = conv_norm_act(x, round_width(6 * channels * width), 1, norm=norm, act=HS, name="last")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(features, kernel_initializer=he_normal(), name="features")(x)  # no norm behind the pool
    return activation(x, HS, name=f"features_{HS}")
