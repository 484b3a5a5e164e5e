"""timm/models/resnet.py and senet.py: networks with squeeze-and-excitation, in their later and their Caffe forms."""

from kcls.weights.name_map import name_maps
from kcls.weights.timm.resnet import UNITS

name_maps(
    {
        r"stem_conv": "conv1",
        r"stem_norm": "bn1",
        # senet154 has three convolutions there, in one sequence with the norms and ReLUs between them
        r"stem_1_conv": "conv1.0",
        r"stem_1_norm": "conv1.1",
        r"stem_2_conv": "conv1.3",
        r"stem_2_norm": "conv1.4",
        r"stem_3_conv": "conv1.6",
        r"stem_3_norm": "bn1",
        **UNITS,
        r"stage(\d+)_unit(\d+)_se_reduce": "layer{0}.{1:-1}.se.fc1",
        r"stage(\d+)_unit(\d+)_se_expand": "layer{0}.{1:-1}.se.fc2",
        r"head": "fc",
    },
    seresnet50="seresnet50",
    seresnet101="seresnet101",
    seresnet152="seresnet152",
    seresnext50_32x4d="seresnext50_32x4d",
    seresnext101_32x4d="seresnext101_32x4d",
    senet154="senet154",
)

name_maps(
    {
        r"stem_conv": "layer0.conv1",
        r"stem_norm": "layer0.bn1",
        **UNITS,
        r"stage(\d+)_unit(\d+)_se_reduce": "layer{0}.{1:-1}.se_module.fc1",
        r"stage(\d+)_unit(\d+)_se_expand": "layer{0}.{1:-1}.se_module.fc2",
        r"head": "last_linear",
    },
    seresnet50_v1="legacy_seresnet50",
    seresnet101_v1="legacy_seresnet101",
    seresnet152_v1="legacy_seresnet152",
)
