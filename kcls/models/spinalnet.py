"""SpinalNet: a Wide ResNet whose head takes the features in bit by bit, as a spine does.

Paper: Kabir et al., "SpinalNet: Deep Neural Network with Gradual Input", 2020, arXiv:2007.03347.

    name                      network            head                      image
    wide_resnet101_2_spinal   wide_resnet101_2   4 layers of 512 neurons   256 px, 10 classes: STL-10

The numbers of the head are those of the authors' notebook for STL-10, which fine-tunes ImageNet weights.
"""

from typing import Any

from keras import layers

from kcls.models.blocks import activation, norm
from kcls.models.registry import variants
from kcls.models.wide_resnet import wide_resnet

LAYERS = 4
DROP_RATE = 0.5


def spinal_head(x, num_classes):
    """Features (B, C) -> logits (B, num_classes), from 4 layers of C / 4 neurons.

    The layers see the halves of the features in turn, and beside them what the layer before answers. The logits see
    all layers. The batch norm behind each layer takes the layer's bias away again, which the authors keep.
    """
    channels = x.shape[-1]
    if channels % LAYERS:
        raise ValueError(f"a spinal head takes a multiple of {LAYERS} features, not {channels}")
    halves = x[:, : channels // 2], x[:, channels // 2 :]
    answers: list[Any] = []
    for i in range(LAYERS):
        name = f"head_layer{i + 1}"
        y = halves[i % 2]
        if answers:
            y = layers.Concatenate(name=f"{name}_input")([y, answers[-1]])
        y = layers.Dropout(DROP_RATE, name=f"{name}_drop")(y)
        y = layers.Dense(channels // LAYERS, name=f"{name}_dense")(y)
        y = activation(norm(y, name=f"{name}_norm"), "relu", name=f"{name}_relu")
        answers.append(y)
    y = layers.Concatenate(name="head_layers")(answers)
    y = layers.Dropout(DROP_RATE, name="head_drop")(y)
    return layers.Dense(num_classes, dtype="float32", name="head")(y)


@variants(
    image_size=256,
    num_classes=10,
    head=spinal_head,
    wide_resnet101_2_spinal=dict(depths=(3, 4, 23, 3)),
)
def spinal_wide_resnet(x, *, depths, width: int = 64, drop_path_rate: float = 0.0, zero_init: bool = True):
    """Image (B, H, W, 3) -> features (B, 32 width)."""
    return wide_resnet(x, depths=depths, width=width, drop_path_rate=drop_path_rate, zero_init=zero_init)
