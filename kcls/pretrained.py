"""``load_pretrained``: from the name of a source to a filled model."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import keras

from kcls.data.archive import read_config
from kcls.errors import KclsError, RecipeError
from kcls.models.registry import get_variant, list_models, rescale
from kcls.run import finished_run, is_run
from kcls.weights import applications, checkpoint, own, package
from kcls.weights.source import Pretrained, Source, parse_source

_LIBRARIES: dict[str, ModuleType] = {
    "timm": checkpoint,
    "keras": applications,
    "package": package,
    "kcls": own,
}


def load_pretrained(model: keras.Model, source: str, *, normalization: bool = True) -> Pretrained:
    """Fills a model of ``create_model`` with pretrained weights; call it before ``compile`` and ``fit``.

    Args:
        model: its name says which variant it is.
        source: ``timm/NAME.TAG`` (Hugging Face hub), ``timm:FILE`` (.safetensors, or .pth, .pt or .bin of PyTorch),
            ``keras/NAME`` (Keras Applications), ``keras:FILE.weights.h5``, ``package/NAME`` (a Python package that
            ``kcls[imagenet]`` installs), a run's folder or a ``.keras`` file.
        normalization: whether the model takes over the mean and std that the weights were trained with.

    Returns:
        Where the weights came from, their SHA-256 and licence, how they want their images, and in ``notes`` what was
        looked through to read them and what they were taken for if the file does not say. Its ``head`` is
        "replaced" if the source has another number of classes: the model's own head, with random weights, stays.

    Raises:
        RecipeError: no such kind of source, or a file that is not there.
        KclsError: the weights cannot be had, are damaged, or do not fit; the model is unchanged then.
    """
    if model.name not in list_models():
        raise RecipeError(f"{model.name!r} is not a model of create_model: its name must be the variant's")
    found = find_pretrained(model.name, source)
    return fill_pretrained(model, found, normalization=normalization)


def find_pretrained(
    name: str, source: str, sha256: str | None = None, options: Mapping[str, Any] = MappingProxyType({})
) -> Pretrained:
    """The weights for the variant ``name``, downloaded if need be; their contents are not looked at yet.

    Args:
        name: of the variant.
        source: as of ``load_pretrained``.
        sha256: what the file must have, in hexadecimal digits.
        options: of the model, for a file of timm's that does not say which network it is of.

    Raises:
        RecipeError: no such kind of source, or a file that is not there.
        KclsError: the weights cannot be had, are of another architecture, or have another SHA-256.
    """
    get_variant(name)
    parsed = parse_source(source)
    if parsed.library == "kcls":
        found = _find_own(parsed, name)
    elif parsed.library == "timm":
        found = checkpoint.find(parsed, name, options)
    else:
        found = _LIBRARIES[parsed.library].find(parsed, name)
    if sha256 and found.sha256 != sha256.lower():
        raise KclsError(f"{found.file} has the SHA-256 {found.sha256}, not {sha256} as the recipe says")
    return found


def _find_own(source: Source, name: str) -> Pretrained:
    """The model file of a run, or the file itself; one of ``kcls train`` also says how it wants its images."""
    path = source.path or Path(source.text)
    file = finished_run(path).model_file if is_run(path) else path
    found = own.find(source.text, file, name)
    try:
        wanted = read_config(file)[1].to_dict()
    except KclsError:  # saved by a script
        return found
    if wanted["fit"] == "pad":
        wanted.pop("crop_fraction")
    return dataclasses.replace(found, **wanted)


def fill_pretrained(model: keras.Model, found: Pretrained, *, normalization: bool = True) -> Pretrained:
    """The second half of ``load_pretrained``: from the found weights to a filled model.

    Raises:
        KclsError: the weights are damaged or do not fit; the model is unchanged then.
    """
    found = _LIBRARIES[parse_source(found.source).library].fill(model, found)
    if normalization and found.mean and found.std:
        rescale(model, found.mean, found.std)
    if found.head == "replaced":
        classes = model.output.shape[-1]
        message = "%s has another number of classes: the head for %d classes starts with random weights"
        logging.getLogger(__name__).warning(message, found.source, classes)
    return found
