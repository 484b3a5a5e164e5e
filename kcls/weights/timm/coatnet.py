"""timm/models/maxxvit.py: CoAtNet."""

import numpy as np

from kcls.weights.name_map import HALF, name_maps

HEAD_CHANNELS = 32

RULES = {
    r"stem_(\d)_(conv|norm)": "stem.{1}{0}",
    r"stage(\d+)_block(\d+)_shortcut": "stages.{0:-1}.blocks.{1:-1}.shortcut.expand",
    # Convolutional blocks.
    r"stage(\d+)_block(\d+)_pre_norm": "stages.{0:-1}.blocks.{1:-1}.pre_norm",
    r"stage(\d+)_block(\d+)_expand_conv": "stages.{0:-1}.blocks.{1:-1}.conv1_1x1",
    r"stage(\d+)_block(\d+)_expand_norm": "stages.{0:-1}.blocks.{1:-1}.norm1",
    r"stage(\d+)_block(\d+)_depthwise_conv": "stages.{0:-1}.blocks.{1:-1}.conv2_kxk",
    r"stage(\d+)_block(\d+)_depthwise_norm": "stages.{0:-1}.blocks.{1:-1}.norm2",
    r"stage(\d+)_block(\d+)_se_reduce": "stages.{0:-1}.blocks.{1:-1}.se.fc1",
    r"stage(\d+)_block(\d+)_se_expand": "stages.{0:-1}.blocks.{1:-1}.se.fc2",
    r"stage(\d+)_block(\d+)_project": "stages.{0:-1}.blocks.{1:-1}.conv3_1x1",
    # Transformer blocks; the first of a stage pools between its norm and its attention.
    r"stage(\d+)_block1_1_norm": "stages.{0:-1}.blocks.0.norm1.norm",
    r"stage(\d+)_block(\d+)_(\d)_norm": "stages.{0:-1}.blocks.{1:-1}.norm{2}",
    r"stage(\d+)_block(\d+)_attention_bias/table": (
        "stages.{0:-1}.blocks.{1:-1}.attn.rel_pos.relative_position_bias_table"
    ),
    r"stage(\d+)_block(\d+)_attention_(qkv|proj)": "stages.{0:-1}.blocks.{1:-1}.attn.{2}",
    r"stage(\d+)_block(\d+)_mlp_expand": "stages.{0:-1}.blocks.{1:-1}.mlp.fc1",
    r"stage(\d+)_block(\d+)_mlp_reduce": "stages.{0:-1}.blocks.{1:-1}.mlp.fc2",
    r"last_norm": "head.norm",
    r"pre_logits": "head.pre_logits.fc",
    r"head": "head.fc",
}


def heads_last(value: np.ndarray) -> np.ndarray:
    """(..., heads x 3 x d), head after head its query, key and value -> (..., 3 x heads x d), all queries first."""
    heads = value.reshape(*value.shape[:-1], -1, 3, HEAD_CHANNELS)
    return heads.swapaxes(-3, -2).reshape(value.shape)


name_maps(
    RULES,
    mean=HALF,
    std=HALF,
    layouts={r".*_attention_qkv": heads_last},
    coatnet_0="coatnet_0_224",
    coatnet_1="coatnet_1_224",
    coatnet_2="coatnet_2_224",
    coatnet_3="coatnet_3_224",
    coatnet_4="coatnet_4_224",
    coatnet_5="coatnet_5_224",
)
