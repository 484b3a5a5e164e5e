"""How another library calls the weights of an architecture: rules from our layer names to its tensor names."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from kcls.errors import KclsError, RecipeError, near
from kcls.models import list_models

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

# What PyTorch calls the variables of a Keras layer.
_SUFFIX = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "alpha": "weight",
}


@dataclass(frozen=True)
class NameMap:
    """The counterpart of one variant.

    Attributes:
        architecture: the other library's name of it.
        rules: pattern of our layer names (or of ``layer/variable``) -> template of the module's (or tensor's) name.
            ``{0}`` is the pattern's first group, ``{0:-1}`` that number less 1.
        mean: of each channel on a 0..1 scale that its weights expect, unless a checkpoint says otherwise.
        std: the same of the standard deviation.
        epsilon: of its batch norms, if it is not ours.
        options: what ``create_model`` needs to build the same network.
        layouts: pattern of our layer names -> what puts a weight that is in Keras's layout into the order of ours.
    """

    architecture: str
    rules: Mapping[str, str]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    epsilon: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    layouts: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)

    def tensor_name(self, path: str) -> str:
        """The tensor's name of our weight ``layer/variable``.

        Raises:
            KclsError: no rule matches, which is a mistake in kcls.
        """
        layer, _, variable = path.rpartition("/")
        if name := apply_rules(self.rules, path):
            return name
        if name := apply_rules(self.rules, layer):
            return f"{name}.{_SUFFIX[variable]}"
        raise KclsError(f"no rule of {self.architecture} matches the weight {path}")

    def computes_as(self, other: "NameMap") -> bool:
        """Whether the same weights mean the same network with the same images."""
        return replace(self, architecture=other.architecture) == other

    def closeness(self, options: Mapping[str, Any]) -> int:
        """How many of a model's options are what this network is built with; -1 if it needs another one."""
        return len(self.options) if self.options.items() <= options.items() else -1

    def arranged(self, value: np.ndarray, layer: str) -> np.ndarray:
        """A weight of our layer that is in Keras's layout, in the order of ours."""
        for pattern, arrange in self.layouts.items():
            if re.fullmatch(pattern, layer):
                value = arrange(value)
        return value


class _Number(int):
    """A number that may be shifted where it is printed, ``{0:-1}``, or be a letter, ``{0:a}``: 1 is a."""

    def __format__(self, how: str) -> str:
        return chr(ord("a") + self - 1) if how == "a" else str(self + int(how or 0))


def apply_rules(rules: Mapping[str, str], name: str) -> str | None:
    """What the first rule makes of a name that its pattern matches, see ``NameMap``; None if none does."""
    for pattern, template in rules.items():
        if match := re.fullmatch(pattern, name):
            return template.format(*(_Number(g) if g and g.isdigit() else g for g in match.groups()))
    return None


NAME_MAPS: dict[str, list[NameMap]] = {}  # variant -> its counterparts, the closest first


def counterpart(architecture: str) -> tuple[str, NameMap]:
    """The variant that the other library calls ``architecture``, and its names.

    Raises:
        RecipeError: kcls has no such variant.
    """
    known = {names.architecture: (variant, names) for variant, maps in NAME_MAPS.items() for names in maps}
    if architecture not in known:
        raise RecipeError(f"kcls does not have the network {architecture!r} of timm{near(architecture, known)}")
    return known[architecture]


def name_maps(
    rules: Mapping[str, str],
    *,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    epsilon: float | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
    layouts: Mapping[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType({}),
    **architectures: str,
) -> None:
    """Enters the counterparts of variants that share rules: our name -> the other library's name.

    Raises:
        ValueError: kcls has no such variant, or the counterpart is there already.
    """
    for name, architecture in architectures.items():
        known = NAME_MAPS.setdefault(name, [])
        if name not in list_models() or architecture in [names.architecture for names in known]:
            raise ValueError(f"{name} is not a variant, or {architecture} is mapped twice")
        known.append(NameMap(architecture, rules, mean, std, epsilon, options, layouts))


def to_keras(tensor: np.ndarray, weight, layer) -> np.ndarray:
    """A PyTorch tensor in the layout of our weight.

    Convolutions (O, I, h, w) become (h, w, I, O), depthwise ones (C, 1, h, w) become (h, w, C, 1), and linear
    layers (O, I) become (I, O). A convolution over the whole of a map becomes the dense layer behind its
    flattening, (h w I, O). The shape is left to the caller to compare.
    """
    if weight.name == "kernel" and tensor.ndim == 4:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            return tensor.transpose(2, 3, 0, 1)
        tensor = tensor.transpose(2, 3, 1, 0)
        return tensor.reshape(-1, tensor.shape[-1]) if len(weight.shape) == 2 else tensor
    if weight.name == "kernel" and tensor.ndim == 2:
        return tensor.T
    if weight.name == "alpha":  # PReLU: one slope a channel
        return tensor.reshape(weight.shape) if tensor.size == np.prod(weight.shape) else tensor
    return tensor
