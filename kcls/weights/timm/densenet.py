"""timm/models/densenet.py: DenseNet-BC for ImageNet."""

from kcls.weights.name_map import name_maps

RULES = {
    r"stem_conv": "features.conv0",
    r"stem_norm": "features.norm0",
    r"stage(\d+)_unit(\d+)_(\d)_(conv|norm)": "features.denseblock{0}.denselayer{1}.{3}{2}",
    r"transition(\d)_(conv|norm)": "features.transition{0}.{1}",
    r"final_norm": "features.norm5",
    r"head": "classifier",
}

name_maps(
    RULES,
    densenet121="densenet121",
    densenet161="densenet161",
    densenet169="densenet169",
    densenet201="densenet201",
)
