"""timm/models/swin_transformer.py: Swin."""

from kcls.weights.name_map import name_maps

RULES = {
    r"stem_conv": "patch_embed.proj",
    r"stem_norm": "patch_embed.norm",
    r"stage(\d+)_merge_norm": "layers.{0:-1}.downsample.norm",
    r"stage(\d+)_merge_reduce": "layers.{0:-1}.downsample.reduction",
    r"stage(\d+)_block(\d+)_([12])_norm": "layers.{0:-1}.blocks.{1:-1}.norm{2}",
    r"stage(\d+)_block(\d+)_attention_(qkv|proj)": "layers.{0:-1}.blocks.{1:-1}.attn.{2}",
    r"stage(\d+)_block(\d+)_attention_bias/table": "layers.{0:-1}.blocks.{1:-1}.attn.relative_position_bias_table",
    r"stage(\d+)_block(\d+)_mlp_expand": "layers.{0:-1}.blocks.{1:-1}.mlp.fc1",
    r"stage(\d+)_block(\d+)_mlp_reduce": "layers.{0:-1}.blocks.{1:-1}.mlp.fc2",
    r"last_norm": "norm",
    r"head": "head.fc",
}

name_maps(
    RULES,
    swin_tiny="swin_tiny_patch4_window7_224",
    swin_small="swin_small_patch4_window7_224",
    swin_base="swin_base_patch4_window7_224",
    swin_large="swin_large_patch4_window7_224",
)
name_maps(  # the same networks with larger windows; tables of another window are resized
    RULES,
    swin_base="swin_base_patch4_window12_384",
    swin_large="swin_large_patch4_window12_384",
)
