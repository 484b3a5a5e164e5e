"""timm's checkpoints: a safetensors file, and a config.json that says how the network wants its images."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kcls.errors import KclsError
from kcls.models.registry import create_model
from kcls.weights.assign import assign
from kcls.weights.hub import download, revision_of, verified
from kcls.weights.name_map import NameMap, to_keras
from kcls.weights.source import Pretrained, Source, sha256
from kcls.weights.timm import NAME_MAPS

FIT = {"center": "crop", "squash": "stretch", "border": "pad"}
# Tensors that files of some versions hold, and that do not belong to the learnt or measured ones.
BUFFERS = ("num_batches_tracked", "relative_position_index", "attn_mask")


def find(source: Source, name: str) -> Pretrained:
    """The checkpoint of a variant, downloaded if need be.

    Raises:
        KclsError: it cannot be had, its config cannot be read, or it is of another architecture.
    """
    _counterparts(name, source.architecture)  # before anything is downloaded
    if source.path:
        file, digest, revision = source.path, sha256(source.path), None
        beside = file.with_name("config.json")
        config = _read(beside) if beside.is_file() else {}
    else:
        config_file = download(source.repository, "config.json", source.revision)
        config = _read(config_file)
        file = download(source.repository, "model.safetensors", source.revision)
        digest, revision = verified(file), revision_of(file)
    architecture = config.get("architecture") or source.architecture
    names = _counterparts(name, architecture)[0]
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


def _read(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KclsError(f"cannot read {file}: {error}") from None
    if not isinstance(config, dict):
        raise KclsError(f"{file} is not a config of timm: expected an object")
    return config


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


def fill(model: keras.Model, found: Pretrained) -> bool:
    """Fills ``model`` from a checkpoint; returns whether the head was filled, too.

    Raises:
        KclsError: the file cannot be read or does not fit the model, which is unchanged then.
    """
    chosen = _counterparts(model.name, found.architecture)
    built = [names for names in chosen if _is_built_with(model, names.options)]
    if not built:
        needed = ", ".join(f"{key}={value}" for key, value in chosen[0].options.items()) or "its options as published"
        raise KclsError(f"{found.source} needs the model {model.name} with {needed}")
    return read_tensors(model, found.file, built[0])


def _is_built_with(model: keras.Model, options: Mapping[str, Any]) -> bool:
    """Whether the model pads as one that is built with these options does; shapes are compared later."""
    if not any(names.options for names in NAME_MAPS[model.name]):
        return True
    other = create_model(model.name, num_classes=0, image_size=model.input.shape[1], **options)
    paddings = [[layer.padding for layer in m.layers if hasattr(layer, "padding")] for m in (model, other)]
    return paddings[0] == paddings[1]


def read_tensors(model: keras.Model, file: Path, names: NameMap) -> bool:
    """Fills ``model`` from a file with timm's tensor names; returns whether the head was filled, too.

    Args:
        model: of ``create_model``.
        file: in the safetensors format.
        names: of the model's variant. If the epsilons of its batch norms are not ours, the difference moves into the
            variances.

    Raises:
        KclsError: the file cannot be read or does not fit the model, which is unchanged then.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise KclsError("a .safetensors file needs: pip install 'kcls[hub]'") from None

    try:
        with safe_open(file, framework="np") as tensors:

            def read(name, weight, layer):
                value = to_keras(tensors.get_tensor(name).astype("float32"), weight, layer)
                if value.shape == tuple(weight.shape):
                    value = names.arranged(value, layer.name)
                if weight.name == "moving_variance" and names.epsilon is not None:
                    value = value + np.float32(names.epsilon - layer.epsilon)
                return value

            available = {name for name in tensors.keys() if not name.endswith(BUFFERS)}  # noqa: SIM118
            return assign(model, names.tensor_name, available, read, str(file))
    except (SafetensorError, OSError, TypeError) as error:
        raise KclsError(f"{file} is damaged or not a safetensors file: {error}") from None
