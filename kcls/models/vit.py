"""Vision transformer: patches of an image, read like the words of a sentence by an encoder of language models.

Paper: Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", ICLR 2021,
arXiv:2010.11929; ``mean_pool``: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022,
arXiv:2111.06377.

    name           patch   blocks   width   heads   images
    vit_tiny_16    16 px   12       192     3       224 px
    vit_small_16   16 px   12       384     6       224 px
    vit_base_32    32 px   12       768     12      224 px
    vit_base_16    16 px   12       768     12      224, 384 px
    vit_large_16   16 px   24       1024    16      224, 384 px
    vit_huge_14    14 px   32       1280    16      224, 518 px; with mean_pool 448 px

Base, large and huge are those of Table 1; tiny and small are DeiT's sizes (arXiv:2012.12877). The features are the
normed class token. With ``mean_pool`` they are the normed mean of the patches' tokens, as a masked autoencoder is
fine-tuned: its class token has had no task. The drop path rate of its authors' recipe is then .1 for base, .2 for large
and .3 for huge.

Differs: without the dropout of .1 that the paper has on ImageNet alone. Kernels start as in DeiT, normal with a
deviation of .02; the authors' code has Glorot's uniform kernels and a head of zeros.
"""

from keras import layers, ops

from kcls.models.layers import ClassTokens
from kcls.models.positions import PositionEmbedding
from kcls.models.registry import variants
from kcls.models.transformer import encoder_block, layer_norm, linear_head, patches

EPSILON = 1e-6  # of the layer norms
HIDDEN = 4  # the wide layer of a block, in widths


def embed(x, patch_size, width, first=("class_token",)):
    """Image (B, H, W, 3) -> tokens (B, 1 + H W / patch_size^2, width) with positions, equation 1.

    ``first`` names the learnt tokens that stand before the patches.
    """
    x = patches(x, width, patch_size, name="patches")
    for name in reversed(first):
        x = ClassTokens(name=name)(x)
    return PositionEmbedding(prefix=len(first), name="positions")(x)


def encode(x, depth, num_heads, drop_path_rate=0.0, name="block"):
    """Blocks, one after the other, without the last norm: (B, N, C) -> the same; equations 2 and 3.

    The drop path rate grows linearly from 0 in the first block.
    """
    if depth < 1:
        raise ValueError(f"a transformer has 1 block or more, not {depth}")
    if depth == 1 and drop_path_rate:
        raise ValueError("the first block never drops its paths, so drop_path_rate would have no effect")
    for b in range(depth):
        x = encoder_block(
            x,
            num_heads,
            hidden=HIDDEN * x.shape[-1],
            epsilon=EPSILON,
            drop_path_rate=drop_path_rate * b / max(depth - 1, 1),
            name=f"{name}{b + 1}",
        )
    return x


def first_tokens(x, count):
    """The first tokens, normed and side by side: (B, N, C) -> (B, count C); equation 4."""
    x = layer_norm(x[:, :count], epsilon=EPSILON, name="last_norm")  # the other tokens need none
    return ops.reshape(x, (-1, count * x.shape[-1]))


def mean_of_patches(x):
    """The mean of all tokens but the first, normed: (B, N, C) -> (B, C)."""
    x = layers.GlobalAveragePooling1D(name="pool")(x[:, 1:])
    return layer_norm(x, epsilon=EPSILON, name="pool_norm")


@variants(
    image_size=224,
    num_classes=1000,
    head=linear_head,
    vit_tiny_16=dict(patch_size=16, depth=12, width=192, num_heads=3),
    vit_small_16=dict(patch_size=16, depth=12, width=384, num_heads=6),
    vit_base_32=dict(patch_size=32, depth=12, width=768, num_heads=12),
    vit_base_16=dict(patch_size=16, depth=12, width=768, num_heads=12, also=(dict(image_size=384),)),
    vit_large_16=dict(patch_size=16, depth=24, width=1024, num_heads=16, also=(dict(image_size=384),)),
    vit_huge_14=dict(
        patch_size=14,
        depth=32,
        width=1280,
        num_heads=16,
        also=(
            dict(image_size=518),
            dict(image_size=448, mean_pool=True),
            dict(image_size=448, mean_pool=True, num_classes=8142),  # iNaturalist 2018
        ),
    ),
)
def vit(x, *, patch_size, depth: int, width: int, num_heads: int, mean_pool: bool = False, drop_path_rate: float = 0.0):
    """Image (B, H, W, 3) -> features (B, width)."""
    x = embed(x, patch_size, width)
    x = encode(x, depth, num_heads, drop_path_rate)
    return mean_of_patches(x) if mean_pool else first_tokens(x, 1)
