"""timm/models/efficientnet.py: EfficientNet and -Lite, of the authors' TensorFlow code and as trained in PyTorch."""

from kcls.weights.name_map import HALF, name_maps

BLOCKS = {
    # The first stage does not widen, and timm numbers its convolutions from the depthwise one.
    r"stage1_block(\d+)_depthwise_conv": "blocks.0.{0:-1}.conv_dw",
    r"stage1_block(\d+)_depthwise_norm": "blocks.0.{0:-1}.bn1",
    r"stage1_block(\d+)_project_conv": "blocks.0.{0:-1}.conv_pw",
    r"stage1_block(\d+)_project_norm": "blocks.0.{0:-1}.bn2",
    r"stage(\d+)_block(\d+)_expand_conv": "blocks.{0:-1}.{1:-1}.conv_pw",
    r"stage(\d+)_block(\d+)_expand_norm": "blocks.{0:-1}.{1:-1}.bn1",
    r"stage(\d+)_block(\d+)_depthwise_conv": "blocks.{0:-1}.{1:-1}.conv_dw",
    r"stage(\d+)_block(\d+)_depthwise_norm": "blocks.{0:-1}.{1:-1}.bn2",
    r"stage(\d+)_block(\d+)_se_(reduce|expand)": "blocks.{0:-1}.{1:-1}.se.conv_{2}",
    r"stage(\d+)_block(\d+)_project_conv": "blocks.{0:-1}.{1:-1}.conv_pwl",
    r"stage(\d+)_block(\d+)_project_norm": "blocks.{0:-1}.{1:-1}.bn3",
}

RULES = {
    r"stem_conv": "conv_stem",
    r"stem_norm": "bn1",
    **BLOCKS,
    r"last_conv": "conv_head",
    r"last_norm": "bn2",
    r"head": "classifier",
}

name_maps(
    RULES,
    efficientnet_b0="tf_efficientnet_b0",
    efficientnet_b1="tf_efficientnet_b1",
    efficientnet_b2="tf_efficientnet_b2",
    efficientnet_b3="tf_efficientnet_b3",
    efficientnet_b4="tf_efficientnet_b4",
    efficientnet_b5="tf_efficientnet_b5",
    efficientnet_b6="tf_efficientnet_b6",
    efficientnet_b7="tf_efficientnet_b7",
    efficientnet_b8="tf_efficientnet_b8",
    efficientnet_l2="tf_efficientnet_l2",
)
name_maps(
    RULES,
    mean=HALF,
    std=HALF,
    efficientnet_lite0="tf_efficientnet_lite0",
    efficientnet_lite1="tf_efficientnet_lite1",
    efficientnet_lite2="tf_efficientnet_lite2",
    efficientnet_lite3="tf_efficientnet_lite3",
    efficientnet_lite4="tf_efficientnet_lite4",
)
name_maps(  # timm has no weights for the larger ones
    RULES,
    epsilon=1e-5,
    options={"same_padding": False},
    efficientnet_b0="efficientnet_b0",
    efficientnet_b1="efficientnet_b1",
    efficientnet_b2="efficientnet_b2",
    efficientnet_b3="efficientnet_b3",
    efficientnet_b4="efficientnet_b4",
    efficientnet_b5="efficientnet_b5",
    efficientnet_lite0="efficientnet_lite0",
)
