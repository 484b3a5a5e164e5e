"""timm/models/convnext.py: ConvNeXt."""

from kcls.weights.name_map import name_maps

RULES = {
    r"stem_conv": "stem.0",
    r"stem_norm": "stem.1",
    r"stage(\d+)_downsample_norm": "stages.{0:-1}.downsample.0",
    r"stage(\d+)_downsample_conv": "stages.{0:-1}.downsample.1",
    r"stage(\d+)_block(\d+)_conv": "stages.{0:-1}.blocks.{1:-1}.conv_dw",
    r"stage(\d+)_block(\d+)_norm": "stages.{0:-1}.blocks.{1:-1}.norm",
    r"stage(\d+)_block(\d+)_expand": "stages.{0:-1}.blocks.{1:-1}.mlp.fc1",
    r"stage(\d+)_block(\d+)_reduce": "stages.{0:-1}.blocks.{1:-1}.mlp.fc2",
    r"stage(\d+)_block(\d+)_scale/gamma": "stages.{0:-1}.blocks.{1:-1}.gamma",
    r"last_norm": "head.norm",
    r"head": "head.fc",
}

name_maps(
    RULES,
    convnext_tiny="convnext_tiny",
    convnext_small="convnext_small",
    convnext_base="convnext_base",
    convnext_large="convnext_large",
)
