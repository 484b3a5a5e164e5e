"""timm/models/resnetv2.py: BiT. Its head is a 1x1 convolution."""

from kcls.weights.name_map import HALF, name_maps

RULES = {
    r"stem_conv": "stem.conv",
    r"stage(\d+)_unit(\d+)_(\d)_(conv|norm)": "stages.{0:-1}.blocks.{1:-1}.{3}{2}",
    r"stage(\d+)_unit(\d+)_shortcut_conv": "stages.{0:-1}.blocks.{1:-1}.downsample.conv",
    r"last_norm": "norm",
    r"head": "head.fc",
}

name_maps(
    RULES,
    mean=HALF,
    std=HALF,
    bit_r50x1="resnetv2_50x1_bit",
    bit_r50x3="resnetv2_50x3_bit",
    bit_r101x1="resnetv2_101x1_bit",
    bit_r101x3="resnetv2_101x3_bit",
    bit_r152x2="resnetv2_152x2_bit",
    bit_r152x4="resnetv2_152x4_bit",
)
