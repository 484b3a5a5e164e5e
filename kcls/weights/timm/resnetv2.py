"""timm/models/resnetv2.py: ResNet v2 with batch norm."""

from kcls.weights.name_map import name_maps

RULES = {
    r"stem_conv": "stem.conv",
    r"stage(\d+)_unit(\d+)_(\d)_(conv|norm)": "stages.{0:-1}.blocks.{1:-1}.{3}{2}",
    r"stage(\d+)_unit(\d+)_shortcut_conv": "stages.{0:-1}.blocks.{1:-1}.downsample.conv",
    r"last_norm": "norm",
    r"head": "head.fc",
}

name_maps(
    RULES,
    resnetv2_50="resnetv2_50",
    resnetv2_101="resnetv2_101",
    resnetv2_152="resnetv2_152",
)
