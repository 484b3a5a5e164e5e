"""MAE, the masked autoencoder: a vision transformer that learns without labels, by painting what it does not see.

Paper: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, arXiv:2111.06377.

    name               patch   encoder              decoder             fine-tuned as
    mae_vit_base_16    16 px   12 blocks of 768     8 blocks of 512     vit_base_16
    mae_vit_large_16   16 px   24 blocks of 1024    the same            vit_large_16
    mae_vit_huge_14    14 px   32 blocks of 1280    the same            vit_huge_14

The encoder is ViT's, and sees a quarter of the patches only. The small decoder sees its answers and, where a patch is
missing, the same learnt token; it is thrown away afterwards. The loss is in ``kcls.methods.masked_autoencoder``. Images
have the mean and deviation of ImageNet. A trained encoder is fine-tuned with ViT's option ``mean_pool``.

Differs: kernels start as everywhere in the transformers here; the authors' code has Glorot's uniform ones.
"""

from keras import layers

from kcls.models.initializers import small_normal
from kcls.models.layers import ClassTokens, MaskTokens, RandomMask
from kcls.models.positions import SinCosPositions
from kcls.models.registry import variants
from kcls.models.transformer import dense, layer_norm, patches
from kcls.models.vit import EPSILON, encode


def encoder(x, depth, num_heads):
    """Seen patches (B, K, C) -> class token and patches (B, 1 + K, C), normed."""
    x = ClassTokens(name="class_token")(x)
    x = encode(x, depth, num_heads)
    return layer_norm(x, epsilon=EPSILON, name="last_norm")


def decoder(x, place, depth, width, num_heads):
    """What the encoder says (B, 1 + K, C) -> all L patches (B, L, width), normed; ``place`` is ``RandomMask``'s."""
    x = dense(x, width, name="decoder_embed")
    x = MaskTokens(prefix=1, name="mask_tokens")([x, place])
    x = SinCosPositions(prefix=1, name="decoder_positions")(x)
    x = encode(x, depth, num_heads, name="decoder_block")
    return layer_norm(x[:, 1:], epsilon=EPSILON, name="decoder_norm")


@variants(
    image_size=224,
    num_classes=0,
    mae_vit_base_16=dict(patch_size=16, depth=12, width=768, num_heads=12, finetuned_as="vit_base_16"),
    mae_vit_large_16=dict(patch_size=16, depth=24, width=1024, num_heads=16, finetuned_as="vit_large_16"),
    mae_vit_huge_14=dict(patch_size=14, depth=32, width=1280, num_heads=16, finetuned_as="vit_huge_14"),
)
def mae(
    x,
    *,
    patch_size,
    depth: int,
    width: int,
    num_heads: int,
    decoder_depth: int = 8,
    decoder_width: int = 512,
    decoder_num_heads: int = 16,
    mask_rate: float = 0.75,
):
    """Image (B, H, W, 3) -> pixels of its L patches (B, L, 3 patch_size^2), and mask (B, L), 1 where one was not seen.

    The pixels of a patch are row by row, the colours of each together. Each call draws another mask, at inference too.
    """
    x = patches(x, width, patch_size, name="patches")
    x = SinCosPositions(name="positions")(x)
    x, place, mask = RandomMask(mask_rate, name="mask")(x)
    x = encoder(x, depth, num_heads)
    x = decoder(x, place, decoder_depth, decoder_width, decoder_num_heads)
    x = layers.Dense(3 * patch_size**2, kernel_initializer=small_normal(), dtype="float32", name="pixels")(x)
    return x, mask
