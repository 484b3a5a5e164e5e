"""What a source of another library is: which network, for how many classes, and what these are called."""

import re
from collections.abc import Callable, Collection
from pathlib import Path

from kcls import labels
from kcls.errors import DataError, KclsError, RecipeError
from kcls.weights import applications, checkpoint, package
from kcls.weights.keras_names import APPLICATIONS
from kcls.weights.name_map import NAME_MAPS, counterpart
from kcls.weights.source import Network, Source


def identify(source: Source) -> Network:
    """Which network a source is of: what it says itself, else what its file is called.

    Raises:
        RecipeError: nothing says it, or kcls does not have that network.
        KclsError: a config beside the file cannot be read.
    """
    return _IDENTIFY[source.library](source)


Notes = tuple[str, ...]
"""What was guessed, for people."""


def _timm(source: Source) -> Network:
    config = checkpoint.config_beside(source.path) if source.path else {}
    architecture, notes = checkpoint.architecture_of(config) or source.architecture, Notes()
    if architecture is None:
        known = {names.architecture for maps in NAME_MAPS.values() for names in maps}
        architecture, notes = _by_name(source, known, "put timm's config.json beside it, or ")
    name, names = counterpart(architecture)
    return Network(name, architecture, names.options, notes)


def _keras(source: Source) -> Network:
    architecture, notes = source.architecture, Notes()
    if architecture is None:
        architecture, notes = _by_name(source, [row.architecture for row in APPLICATIONS.values()])
    name = applications.variant_of(architecture)
    return Network(name, architecture, {"same_padding": True} if APPLICATIONS[name].same_padding else {}, notes)


def _package(source: Source) -> Network:
    names = package.row(source).names
    return Network(names.architecture, names.architecture, names.options)


_IDENTIFY: dict[str, Callable[[Source], Network]] = {"timm": _timm, "keras": _keras, "package": _package}


def _by_name(source: Source, known: Collection[str], way_out: str = "") -> tuple[str, Notes]:
    """The network that a file is called after, as resnet50-11ad3fa6.pth or a download of Keras, and a note of that."""
    file = source.path.name if source.path else ""
    downloads = {row.url.rpartition("/")[2]: row.architecture for row in APPLICATIONS.values()}
    architecture = downloads.get(file) if source.library == "keras" else None
    architecture = architecture or re.split("[.-]", file)[0]
    if architecture not in known:
        example = f"{'ResNet50.weights' if source.library == 'keras' else 'resnet50'}{Path(file).suffix}"
        raise RecipeError(
            f"{source.text} does not say which network it is of: {way_out}name the file after the network, as "
            f"{source.library} calls it ({example}); `kcls.load_pretrained` fills a model that you choose"
        )
    return architecture, (f"taken for {source.library}'s {architecture}, as the file is called",)


def count_classes(source: Source, network: Network, file: Path) -> int:
    """How many classes the head in a file of weights knows; 0 if it has no head.

    Raises:
        KclsError: the file cannot be read.
    """
    if source.library == "keras":
        return applications.count_classes(file)
    names = package.row(source).names if source.library == "package" else counterpart(network.architecture)[1]
    with checkpoint.open_tensors(file) as tensors:
        return tensors.shapes.get(names.tensor_name("head/kernel"), (0,))[0]


def class_names(source: Source, file: Path, count: int) -> tuple[tuple[str, ...], Notes]:
    """What the classes of weights are called, and a note if that is a guess.

    A ``labels.txt`` beside a local file says it first, then the ``label_names`` in timm's config.json; 1,000 classes
    are ImageNet's.

    Raises:
        KclsError: nothing says it, or there are not as many names as classes.
        DataError: two names differ in case only, or one cannot be printed.
    """
    beside, imagenet = file.with_name(labels.FILE_NAME), labels.imagenet()
    if source.path and beside.is_file():
        return _checked(labels.read(beside), count, beside), ()
    stated = checkpoint.label_names(file) if source.library == "timm" else ()
    if stated and stated != imagenet.synsets:
        return _checked(stated, count, file.with_name(checkpoint.CONFIG_NAME)), ()
    if count == len(imagenet.names):
        known = source.of_imagenet or bool(stated)
        return imagenet.names, () if known else ("its 1,000 classes taken for ImageNet's",)
    if not count:
        raise KclsError(f"{source.text} has no head: it computes features, and does not classify")
    where = f"beside {file}" if source.path else "beside a file of these weights"
    raise KclsError(
        f"nothing says what the {count:,} classes of {source.text} are called: put {beside.name} {where}, one "
        "name a line in the order of the logits"
    )


def _checked(names: tuple[str, ...], count: int, where: Path) -> tuple[str, ...]:
    if len(names) != count:
        raise KclsError(f"{where} names {len(names):,} classes, the weights have {count:,}")
    try:
        labels.check_names(names)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    return names
