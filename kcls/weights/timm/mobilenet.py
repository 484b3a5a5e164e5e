"""timm/models/efficientnet.py and mobilenetv3.py: MobileNetV2, and MobileNetV3 as trained in PyTorch and TensorFlow."""

from kcls.weights.name_map import HALF, name_maps
from kcls.weights.timm.efficientnet import BLOCKS, RULES

V3_RULES = {
    r"stem_conv": "conv_stem",
    r"stem_norm": "bn1",
    **BLOCKS,
    r"features": "conv_head",
    r"head": "classifier",
}
# The convolution before the pool is a stage to timm: the seventh of the large network, the sixth of the small one.
LARGE = {**V3_RULES, r"last_conv": "blocks.6.0.conv", r"last_norm": "blocks.6.0.bn1"}
SMALL = {**V3_RULES, r"last_conv": "blocks.5.0.conv", r"last_norm": "blocks.5.0.bn1"}

name_maps(
    RULES,
    mobilenet_v2="mobilenetv2_100",
    mobilenet_v2_050="mobilenetv2_050",
    mobilenet_v2_140="mobilenetv2_140",
)
name_maps(LARGE, mobilenet_v3_large="mobilenetv3_large_100")
name_maps(SMALL, mobilenet_v3_small="mobilenetv3_small_100")

SAME = {"same_padding": True}
name_maps(LARGE, mean=HALF, std=HALF, epsilon=1e-3, options=SAME, mobilenet_v3_large="tf_mobilenetv3_large_100")
name_maps(SMALL, mean=HALF, std=HALF, epsilon=1e-3, options=SAME, mobilenet_v3_small="tf_mobilenetv3_small_100")
