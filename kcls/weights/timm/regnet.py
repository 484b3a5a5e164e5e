"""timm/models/regnet.py: RegNetY."""

from kcls.weights.name_map import name_maps

RULES = {
    r"stem_conv": "stem.conv",
    r"stem_norm": "stem.bn",
    r"stage(\d+)_block(\d+)_(\d)_conv": "s{0}.b{1}.conv{2}.conv",
    r"stage(\d+)_block(\d+)_(\d)_norm": "s{0}.b{1}.conv{2}.bn",
    r"stage(\d+)_block(\d+)_se_reduce": "s{0}.b{1}.se.fc1",
    r"stage(\d+)_block(\d+)_se_expand": "s{0}.b{1}.se.fc2",
    r"stage(\d+)_block(\d+)_shortcut_conv": "s{0}.b{1}.downsample.conv",
    r"stage(\d+)_block(\d+)_shortcut_norm": "s{0}.b{1}.downsample.bn",
    r"head": "head.fc",
}

name_maps(
    RULES,
    regnety_3_2g="regnety_032",
    regnety_4g="regnety_040",
    regnety_6_4g="regnety_064",
    regnety_8g="regnety_080",
    regnety_16g="regnety_160",
    regnety_32g="regnety_320",
)
