"""timm/models/resnet.py: ResNet and Wide ResNet."""

from kcls.weights.name_map import name_maps

UNITS = {
    r"stage(\d+)_unit(\d+)_(\d)_conv": "layer{0}.{1:-1}.conv{2}",
    r"stage(\d+)_unit(\d+)_(\d)_norm": "layer{0}.{1:-1}.bn{2}",
    r"stage(\d+)_unit(\d+)_shortcut_conv": "layer{0}.{1:-1}.downsample.0",
    r"stage(\d+)_unit(\d+)_shortcut_norm": "layer{0}.{1:-1}.downsample.1",
}

RULES = {r"stem_conv": "conv1", r"stem_norm": "bn1", **UNITS, r"head": "fc"}

name_maps(
    RULES,
    resnet18="resnet18",
    resnet34="resnet34",
    resnet50="resnet50",
    resnet101="resnet101",
    resnet152="resnet152",
    wide_resnet50_2="wide_resnet50_2",
    wide_resnet101_2="wide_resnet101_2",
)
