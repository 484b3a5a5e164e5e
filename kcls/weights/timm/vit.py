"""timm/models/vision_transformer.py and deit.py: ViT and DeiT.

The norm behind the mean of the patches is another module than the norm of the class token.
"""

from kcls.weights.name_map import HALF, name_maps

RULES = {
    r"patches": "patch_embed.proj",
    r"class_token/tokens": "cls_token",
    r"distillation_token/tokens": "dist_token",
    r"positions/positions": "pos_embed",
    r"block(\d+)_(\d)_norm": "blocks.{0:-1}.norm{1}",
    r"block(\d+)_attention_(qkv|proj)": "blocks.{0:-1}.attn.{1}",
    r"block(\d+)_mlp_expand": "blocks.{0:-1}.mlp.fc1",
    r"block(\d+)_mlp_reduce": "blocks.{0:-1}.mlp.fc2",
    r"last_norm": "norm",
    r"pool_norm": "fc_norm",
    r"head": "head",
    r"head_distilled": "head_dist",
}

name_maps(
    RULES,
    mean=HALF,
    std=HALF,
    vit_tiny_16="vit_tiny_patch16_224",
    vit_small_16="vit_small_patch16_224",
    vit_base_32="vit_base_patch32_224",
    vit_base_16="vit_base_patch16_224",
    vit_large_16="vit_large_patch16_224",
    vit_huge_14="vit_huge_patch14_224",
)
name_maps(RULES, mean=HALF, std=HALF, vit_base_16="vit_base_patch16_384", vit_large_16="vit_large_patch16_384")
name_maps(
    RULES,
    deit_tiny="deit_tiny_patch16_224",
    deit_small="deit_small_patch16_224",
    deit_base="deit_base_patch16_224",
    deit_tiny_distilled="deit_tiny_distilled_patch16_224",
    deit_small_distilled="deit_small_distilled_patch16_224",
    deit_base_distilled="deit_base_distilled_patch16_224",
)
name_maps(RULES, deit_base="deit_base_patch16_384", deit_base_distilled="deit_base_distilled_patch16_384")
