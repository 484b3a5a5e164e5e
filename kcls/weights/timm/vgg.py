"""timm/models/vgg.py: VGG, whose layers are numbered through, activations and pools included."""

from kcls.models.registry import get_variant
from kcls.weights.name_map import name_maps


def rules(name: str) -> dict[str, str]:
    """The rules of a variant: each depth numbers the layers of ``features`` differently."""
    variant = get_variant(name)
    names, index = {}, 0
    for s, depth in enumerate(variant.option("depths"), 1):
        for i in range(1, depth + 1):
            names[f"stage{s}_{i}_conv"] = f"features.{index}"
            if variant.option("norm"):
                names[f"stage{s}_{i}_norm"] = f"features.{index + 1}"
                index += 1
            index += 2  # the convolution and its ReLU
        index += 1  # the pool
    return names | {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "head": "head.fc"}


name_maps(rules("vgg11"), vgg11="vgg11")
name_maps(rules("vgg13"), vgg13="vgg13")
name_maps(rules("vgg16"), vgg16="vgg16")
name_maps(rules("vgg19"), vgg19="vgg19")
name_maps(rules("vgg16_bn"), vgg16_bn="vgg16_bn")
name_maps(rules("vgg19_bn"), vgg19_bn="vgg19_bn")
