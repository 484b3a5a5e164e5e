"""timm/models/efficientnet.py and mobilenetv3.py: MobileNetV2, V4, and V3 as trained in PyTorch and TensorFlow."""

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

V4_RULES = {
    r"stem_conv": "conv_stem",
    r"stem_norm": "bn1",
    # Only the larger networks have a fused block, and only as the first.
    r"stage1_block1_fused_conv": "blocks.0.0.conv_exp",
    r"stage1_block1_fused_norm": "blocks.0.0.bn1",
    r"stage1_block1_project_conv": "blocks.0.0.conv_pwl",
    r"stage1_block1_project_norm": "blocks.0.0.bn2",
    r"stage(\d+)_block(\d+)_conv": "blocks.{0:-1}.{1:-1}.conv",
    r"stage(\d+)_block(\d+)_norm": "blocks.{0:-1}.{1:-1}.bn1",
    r"stage(\d+)_block(\d+)_start_conv": "blocks.{0:-1}.{1:-1}.dw_start.conv",
    r"stage(\d+)_block(\d+)_start_norm": "blocks.{0:-1}.{1:-1}.dw_start.bn",
    r"stage(\d+)_block(\d+)_expand_conv": "blocks.{0:-1}.{1:-1}.pw_exp.conv",
    r"stage(\d+)_block(\d+)_expand_norm": "blocks.{0:-1}.{1:-1}.pw_exp.bn",
    r"stage(\d+)_block(\d+)_middle_conv": "blocks.{0:-1}.{1:-1}.dw_mid.conv",
    r"stage(\d+)_block(\d+)_middle_norm": "blocks.{0:-1}.{1:-1}.dw_mid.bn",
    r"stage(\d+)_block(\d+)_project_conv": "blocks.{0:-1}.{1:-1}.pw_proj.conv",
    r"stage(\d+)_block(\d+)_project_norm": "blocks.{0:-1}.{1:-1}.pw_proj.bn",
    r"last_conv": "blocks.4.0.conv",
    r"last_norm": "blocks.4.0.bn1",
    r"features_conv": "conv_head",
    r"features_norm": "norm_head",
    r"head": "classifier",
}
name_maps(
    V4_RULES,
    mobilenet_v4_conv_small="mobilenetv4_conv_small",
    mobilenet_v4_conv_medium="mobilenetv4_conv_medium",
    mobilenet_v4_conv_large="mobilenetv4_conv_large",
)
