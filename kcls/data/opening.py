"""From a recipe's data section to its images: which kind of place, and what is kept in memory."""

from collections.abc import Callable
from functools import partial

from kcls.data.folder import FolderData
from kcls.data.preprocess import Preprocess
from kcls.data.reading import reading
from kcls.data.source import Data, InMemory, Source
from kcls.data.tensorflow_datasets import TfdsData, TfdsSource
from kcls.errors import DataError
from kcls.sections import AugmentSection, DataSection

KINDS: dict[str, Callable[[DataSection, bool], Data]] = {"folder": FolderData, "tfds": TfdsData}
MEMORY_LIMIT = 2**30  # bytes of images: what takes less is kept


def open_data(section: DataSection, *, download: bool = False) -> Data:
    """Looks up what a data section names.

    Args:
        section: of a recipe.
        download: whether a TensorFlow data set that is not on this machine may be downloaded.

    Raises:
        RecipeError: the source is unknown.
        DataError: the data is missing, would have to be downloaded, or cannot be used.
    """
    return KINDS[section.kind](section, download)


def kept(source: Source, preprocess: Preprocess, augment: AugmentSection | None = None) -> Source:
    """The source, with its images in memory if they are small: as squares, where the view begins with the square.

    Else as encoded bytes, where a source can only be read in order: a shuffled order then needs no buffer.

    Raises:
        DataError: an image cannot be decoded, or has no label.
    """
    if not (augment and augment.random_resized_crop):
        if source.count * preprocess.image_size**2 * 3 <= MEMORY_LIMIT:
            return reading(source, partial(InMemory.read, source, preprocess.view))
    elif isinstance(source, TfdsSource) and 0 < source.size_bytes <= MEMORY_LIMIT:
        return InMemory.read(source, lambda contents: contents)
    return source


def check_unchanged(data: Data, roles: tuple[str, ...], known: dict[str, str], advice: str) -> None:
    """Raises a DataError with ``advice`` if a split is no longer the one with the ``known`` fingerprint."""
    for role in roles:
        now = data.split(role).fingerprint
        if role in known and now != known[role]:
            raise DataError(
                f"the images of split {role!r} are not those of the training any more (then: {known[role]}, "
                f"now: {now}); {advice}"
            )


def check_not_trained_on(data: Data, role: str, known: dict[str, str]) -> None:
    """Raises a DataError if ``role`` is cut from the same images as ``train``, and these have changed since.

    The slices of a folder are drawn anew when an image is added, so that one that was trained on may be in any.
    """
    section = data.section
    if role != "train" and getattr(section, role).partition("[")[0] == section.train.partition("[")[0]:
        advice = f"so {role!r} may hold images that were trained on: put new ones in a folder of their own"
        check_unchanged(data, ("train",), known, advice)
