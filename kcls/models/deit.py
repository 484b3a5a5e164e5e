"""DeiT: vision transformers that learn from ImageNet alone, by strong augmentation or from a teacher.

Paper: Touvron et al., "Training data-efficient image transformers & distillation through attention", ICML 2021,
arXiv:2012.12877.

    name                   width   heads   images
    deit_tiny              192     3       224 px
    deit_small             384     6       224 px
    deit_base              768     12      224, 384 px
    deit_*_distilled       those of deit_*

All have 12 blocks and patches of 16 px, and are ViT's networks; the drop path rate is that of Table 9.

A distilled network has a second token, which learns what a teacher says while the class token learns the labels. Each
has a head of its own, ``head`` and ``head_distilled``; the network answers with the mean of their logits. Plain ``fit``
trains this mean. A distillation gives each head a loss of its own: the logits of both are the outputs of the layers of
these names, ``keras.Model(network.input, [network.get_layer(n).output for n in ("head", "head_distilled")])``.

Differs: the paper adds the probabilities of the two heads; the authors' code, and so its weights, add the logits.
"""

from keras import layers, ops

from kcls.models.initializers import small_normal
from kcls.models.registry import variants
from kcls.models.transformer import linear_head
from kcls.models.vit import embed, encode, first_tokens, vit

PATCH_SIZE = 16
FIRST = ("class_token", "distillation_token")


@variants(
    image_size=224,
    num_classes=1000,
    head=linear_head,
    deit_tiny=dict(width=192, num_heads=3),
    deit_small=dict(width=384, num_heads=6),
    deit_base=dict(width=768, num_heads=12, also=(dict(image_size=384),)),
)
def deit(x, *, width: int, num_heads: int, depth: int = 12, drop_path_rate: float = 0.1):
    """Image (B, H, W, 3) -> features (B, width)."""
    return vit(x, patch_size=PATCH_SIZE, depth=depth, width=width, num_heads=num_heads, drop_path_rate=drop_path_rate)


def two_heads(x, num_classes):
    """Features (B, 2 C) -> logits (B, num_classes): the mean of those of the two tokens' heads."""
    logits = [
        layers.Dense(num_classes, kernel_initializer=small_normal(), dtype="float32", name=name)(token)
        for name, token in zip(("head", "head_distilled"), ops.split(x, 2, axis=-1), strict=True)
    ]
    return layers.Average(dtype="float32", name="logits")(logits)


@variants(
    image_size=224,
    num_classes=1000,
    head=two_heads,
    deit_tiny_distilled=dict(width=192, num_heads=3),
    deit_small_distilled=dict(width=384, num_heads=6),
    deit_base_distilled=dict(width=768, num_heads=12, also=(dict(image_size=384),)),
)
def distilled_deit(x, *, width: int, num_heads: int, depth: int = 12, drop_path_rate: float = 0.1):
    """Image (B, H, W, 3) -> features (B, 2 width): the class token, then the distillation token."""
    x = embed(x, PATCH_SIZE, width, FIRST)
    x = encode(x, depth, num_heads, drop_path_rate)
    return first_tokens(x, len(FIRST))
