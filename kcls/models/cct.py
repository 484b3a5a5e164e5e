"""CCT, the Compact Convolutional Transformer: tokens from convolutions, for training on small data sets.

Paper: Hassani et al., "Escaping the Big Data Paradigm with Compact Transformers", 2021, arXiv:2104.05704.

    name         blocks   width   heads   layer   tokenizer    image
    cct_14_7x2   14       384     6       x 3     2 x 7x7/2    224, 384 px: ImageNet; 384 px, 102 classes: Flowers-102
    cct_7_7x2    7        256     4       x 2     2 x 7x7/2    224 px, 102 classes: Flowers-102
    cct_7_3x1    7        256     4       x 2     1 x 3x3      32 px, 10 classes: CIFAR-10
    cct_7_3x2    7        256     4       x 2     2 x 3x3      32 px, 10 classes: CIFAR-10

A name holds the number of blocks, and the kernel and number of the tokenizer's convolutions. Small images keep more
tokens that way: 256 of 32 px in cct_7_3x1. No token stands for the class: the features are a weighted mean of all. A
tenth of the attention's weights is dropped, and up to a tenth of the branches, linearly from 0 in the first block.

Differs: as in the authors' code, and other than in the paper's equations, the second branch of a block is added to what
its norm gives, not to what the norm takes. Positions are learnt; the authors' best results on small sets have fixed
sines.
"""

from keras import initializers, layers, ops

from kcls.models.blocks import activation, conv, max_pool
from kcls.models.positions import PositionEmbedding
from kcls.models.registry import variants
from kcls.models.transformer import attention, dense, layer_norm, linear_head, mlp, residual

EPSILON = 1e-5  # of the layer norms
FIRST_WIDTH = 64  # of the tokenizer's convolutions but the last


def tokenizer(x, width, kernel, stride, convs):
    """Convolution, ReLU and pool, ``convs`` times: (B, H, W, 3) -> (B, N, width), each halving the map or more."""
    for i in range(1, convs + 1):
        filters = width if i == convs else FIRST_WIDTH
        he = initializers.VarianceScaling(2.0, mode="fan_in", distribution="untruncated_normal")
        x = conv(x, filters, kernel, stride, kernel_initializer=he, name=f"tokenizer{i}_conv")
        x = activation(x, "relu", name=f"tokenizer{i}_relu")
        x = max_pool(x, 3, 2, padding=1, name=f"tokenizer{i}_pool")
    return ops.reshape(x, (-1, x.shape[1] * x.shape[2], width))


def block(x, num_heads, mlp_ratio, attention_drop_rate, drop_path_rate, name):
    """Attention, then a layer for each token: (B, N, C) -> the same. The second sum starts from normed tokens."""
    y = layer_norm(x, epsilon=EPSILON, name=f"{name}_1_norm")
    y = attention(y, num_heads, qkv_bias=False, drop_rate=attention_drop_rate, name=f"{name}_attention")
    x = residual(x, y, drop_path_rate, name=f"{name}_1")
    x = layer_norm(x, epsilon=EPSILON, name=f"{name}_2_norm")
    y = mlp(x, mlp_ratio * x.shape[-1], name=f"{name}_mlp")
    return residual(x, y, drop_path_rate, name=f"{name}_2")


def sequence_pool(x):
    """Mean of the tokens, weighted by what a linear layer says of each: (B, N, C) -> (B, C); section 3.2."""
    _, length, width = x.shape
    weights = ops.reshape(dense(x, 1, name="pool_attention"), (-1, 1, length))
    weights = layers.Softmax(name="pool_softmax")(weights)
    return ops.reshape(ops.matmul(weights, x), (-1, width))


@variants(
    image_size=224,
    num_classes=1000,
    head=linear_head,
    cct_14_7x2=dict(
        depth=14,
        width=384,
        num_heads=6,
        mlp_ratio=3,
        kernel=7,
        stride=2,
        convs=2,
        also=(dict(image_size=384), dict(image_size=384, num_classes=102)),
    ),
    cct_7_7x2=dict(depth=7, width=256, num_heads=4, mlp_ratio=2, kernel=7, stride=2, convs=2, num_classes=102),
    cct_7_3x1=dict(
        depth=7, width=256, num_heads=4, mlp_ratio=2, kernel=3, stride=1, convs=1, image_size=32, num_classes=10
    ),
    cct_7_3x2=dict(
        depth=7, width=256, num_heads=4, mlp_ratio=2, kernel=3, stride=1, convs=2, image_size=32, num_classes=10
    ),
)
def cct(
    x,
    *,
    depth: int,
    width: int,
    num_heads: int,
    mlp_ratio,
    kernel,
    stride,
    convs,
    attention_drop_rate: float = 0.1,
    drop_path_rate: float = 0.1,
):
    """Image (B, H, W, 3) -> features (B, width)."""
    if depth < 1:
        raise ValueError(f"depth is 1 or more, not {depth}")
    x = tokenizer(x, width, kernel, stride, convs)
    x = PositionEmbedding(stddev=0.2, name="positions")(x)
    for b in range(1, depth + 1):
        rate = drop_path_rate * (b - 1) / max(depth - 1, 1)
        x = block(x, num_heads, mlp_ratio, attention_drop_rate, rate, f"block{b}")
    x = layer_norm(x, epsilon=EPSILON, name="last_norm")
    return sequence_pool(x)
