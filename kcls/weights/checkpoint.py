"""Checkpoints with timm's names: tensors in a file, and a config.json that says how the network wants its images."""

import dataclasses
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras

from kcls.errors import KclsError
from kcls.models.registry import get_variant
from kcls.weights.assign import assign
from kcls.weights.hub import download, revision_of, verified
from kcls.weights.name_map import NameMap, to_keras
from kcls.weights.pth import open_pth
from kcls.weights.source import Pretrained, Source, sha256
from kcls.weights.tensors import TensorFile
from kcls.weights.timm import NAME_MAPS

CONFIG_NAME = "config.json"
FIT = {"center": "crop", "squash": "stretch", "border": "pad"}


def find(source: Source, name: str, options: Mapping[str, Any] = MappingProxyType({})) -> Pretrained:
    """The checkpoint of a variant, downloaded if need be.

    Args:
        source: of timm.
        name: of the variant.
        options: of the model that it is for. If the file does not say which of timm's networks it is of, the
            normalisation is that of the one that is built with them.

    Raises:
        KclsError: it cannot be had, its config cannot be read or makes no sense, or it is of another architecture.
    """
    _counterparts(name, source.architecture)  # before anything is downloaded
    if source.path:
        file, digest, revision = source.path, sha256(source.path), None
        config = config_beside(file)
    else:
        config = _read(download(source.repository, CONFIG_NAME, source.revision))
        file = download(source.repository, "model.safetensors", source.revision)
        digest, revision = verified(file), revision_of(file)
    architecture = architecture_of(config) or source.architecture
    names = max(_counterparts(name, architecture), key=lambda names: names.closeness(options))
    wanted = config.get("pretrained_cfg") or {}
    size = wanted.get("input_size") or (None,)
    fit = FIT.get(wanted.get("crop_mode") or "center", "crop")
    return Pretrained(
        source.text,
        architecture,
        file,
        digest,
        revision,
        wanted.get("license"),
        mean=tuple(wanted.get("mean") or names.mean),
        std=tuple(wanted.get("std") or names.std),
        image_size=size[-1],
        fit=fit if wanted else None,
        crop_fraction=wanted.get("crop_pct") if fit != "pad" else None,
        # timm's "random" is for training; its evaluation is bilinear then.
        interpolation={"bicubic": "bicubic", None: None}.get(wanted.get("interpolation"), "bilinear"),
    )


def config_beside(file: Path) -> dict[str, Any]:
    """The config of timm in the folder of a file of weights; empty if there is none.

    Raises:
        KclsError: it cannot be read or makes no sense.
    """
    config = file.with_name(CONFIG_NAME)
    return _read(config) if config.is_file() else {}


def architecture_of(config: Mapping[str, Any]) -> str | None:
    """The network that a config names; the name may carry a tag, as the hub's do: resnet18.a1_in1k."""
    return config.get("architecture", "").partition(".")[0] or None


def label_names(file: Path) -> tuple[str, ...]:
    """What the config beside a file calls the classes, in the order of the logits; empty if it does not say."""
    config = config_beside(file)
    stated = config.get("label_names") or (config.get("pretrained_cfg") or {}).get("label_names") or ()
    numbered = {str(key): name for key, name in stated.items()} if isinstance(stated, dict) else None
    names = stated if numbered is None else [numbered.get(str(i)) for i in range(len(numbered))]
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise KclsError(f"{file.with_name(CONFIG_NAME)}: label_names is no list of names, nor names by number from 0")
    return tuple(names)


def _read(file: Path) -> dict[str, Any]:
    """A config of timm; what is wrong in it is told before anything is done with it."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KclsError(f"cannot read {file}: {error}") from None
    wanted = (config.get("pretrained_cfg") or {}) if isinstance(config, dict) else None
    if not isinstance(wanted, dict):
        raise KclsError(f"{file} is not a config of timm: expected an object")
    if not isinstance(config.get("architecture", ""), str):
        raise KclsError(f"{file}: architecture is {config['architecture']!r}, expected a name")
    for key, what, is_good in _EXPECTED:
        value = wanted.get(key)
        if value is not None and not is_good(value):
            raise KclsError(f"{file}: {key} is {value!r}, expected {what}")
    return config


def _is_number(value: Any, above: float, to: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and above < value <= to


def _are_three(value: Any, above: float = -sys.float_info.max) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_number(v, above, sys.float_info.max) for v in value)


def _are_pixels(value: Any) -> bool:
    return _are_three(value, above=0) and {*map(type, value)} == {int}


_EXPECTED: list[tuple[str, str, Callable[[Any], bool]]] = [
    ("mean", "three numbers", _are_three),
    ("std", "three numbers above 0", lambda value: _are_three(value, above=0)),
    (
        "input_size",
        "channels, height and width",
        _are_pixels,
    ),
    ("crop_pct", "a fraction above 0, at most 1", lambda value: _is_number(value, above=0, to=1)),
    ("crop_mode", f"one of {', '.join(FIT)}", lambda value: value in list(FIT)),
    ("interpolation", "a name", lambda value: isinstance(value, str)),
]


def _counterparts(name: str, architecture: str | None) -> list[NameMap]:
    """What timm calls a variant: all its names, or the one that is given."""
    known = NAME_MAPS.get(name, [])
    if not known:
        raise KclsError(f"timm has no counterpart of {name}")
    chosen = [names for names in known if architecture in (None, names.architecture)]
    if not chosen:
        takes = " or ".join(names.architecture for names in known)
        raise KclsError(f"the weights are of {architecture!r}; {name} takes those of timm's {takes}")
    return chosen


def fill(model: keras.Model, found: Pretrained) -> Pretrained:
    """Fills ``model`` from a checkpoint; returns what it was taken for, and whether the head was filled, too.

    Raises:
        KclsError: the file cannot be read or does not fit the model, which is unchanged then.
    """
    chosen = _counterparts(model.name, found.architecture)
    built = [names for names in chosen if is_built_with(model, names.options)]
    if not built:
        raise KclsError(f"{found.source} needs the model {model.name} with {_options(chosen[0])}")
    names = built[0]
    with open_tensors(found.file) as tensors:
        whole = fill_from(tensors, model, names, str(found.file))
    notes = (*found.notes, *tensors.notes)
    if found.architecture is None:
        notes = (f"taken for timm's {names.architecture}, which the file does not say", *notes)
        _warn_of_others(found, names, chosen)
        if (found.mean, found.std) == (chosen[0].mean, chosen[0].std):  # a guess, too
            found = dataclasses.replace(found, mean=names.mean, std=names.std)
    head = "loaded" if whole else "replaced"
    return dataclasses.replace(found, architecture=names.architecture, notes=notes, head=head)


def _warn_of_others(found: Pretrained, names: NameMap, chosen: list[NameMap]) -> None:
    """Says that a file, which does not say what it is, may be of a network with other arithmetic."""
    others = [other for other in chosen if not other.computes_as(names)]
    if others:
        logging.getLogger(__name__).warning(
            "%s may be timm's %s: their tensors are alike, their padding, epsilon or normalisation is not. Taken for "
            "the first, because the model has %s. timm's config.json beside the file decides, or a model with %s",
            found.source,
            " or ".join(n.architecture for n in (names, *others)),
            _options(names),
            " or ".join(f"{_options(other)} ({other.architecture})" for other in others),
        )


def _options(names: NameMap) -> str:
    return ", ".join(f"{key}={value}" for key, value in names.options.items()) or "its options as published"


def is_built_with(model: keras.Model, options: Mapping[str, Any]) -> bool:
    """Whether the model pads as one that is built with these options does; shapes are compared later."""
    if not any(names.options for names in NAME_MAPS[model.name]):
        return True
    same_padding = options.get("same_padding", get_variant(model.name).option("same_padding"))
    # "same" is what needs no padding of its own.
    return same_padding != any(isinstance(layer, keras.layers.ZeroPadding2D) for layer in model.layers)


def read_tensors(model: keras.Model, file: Path, names: NameMap) -> bool:
    """Fills ``model`` from a file of named tensors; returns whether the head was filled, too.

    Args:
        model: of ``create_model``.
        file: in the safetensors format, or of ``torch.save``.
        names: of the model's variant.

    Raises:
        KclsError: the file cannot be read or does not fit the model, which is unchanged then.
    """
    with open_tensors(file) as tensors:
        return fill_from(tensors, model, names, str(file))


def fill_from(tensors: TensorFile, model: keras.Model, names: NameMap, source: str) -> bool:
    """The second half of ``read_tensors``: from an open file to a filled model."""

    def read(name, weight, layer):
        value = to_keras(tensors.get(name).astype("float32"), weight, layer)
        return names.arranged(value, layer.name) if value.shape == tuple(weight.shape) else value

    return assign(model, names.tensor_name, tensors.shapes, read, source, epsilon=lambda name: names.epsilon)


@contextmanager
def open_tensors(file: Path) -> Iterator[TensorFile]:
    """The learnt and measured tensors of a file, without a prefix that all their names have.

    Raises:
        KclsError: the file cannot be read.
    """
    opened = open_safetensors(file) if file.suffix == ".safetensors" else open_pth(file)
    with opened as tensors:
        yield tensors.unwrapped()


@contextmanager
def open_safetensors(file: Path) -> Iterator[TensorFile]:
    """The tensors of a file in the safetensors format, none of which is read yet.

    Raises:
        KclsError: the file cannot be read.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise KclsError("a .safetensors file needs: pip install 'kcls[hub]'") from None
    try:
        with safe_open(file, framework="np") as tensors:
            shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
            yield TensorFile(shapes, tensors.get_tensor)
    except (SafetensorError, OSError, TypeError) as error:
        raise KclsError(f"{file} is damaged or not a safetensors file: {error}") from None
