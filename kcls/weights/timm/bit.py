"""timm/models/resnetv2.py: BiT. Its head is a 1x1 convolution."""

from kcls.weights.name_map import HALF, name_maps
from kcls.weights.timm.resnetv2 import RULES

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
