"""What names pretrained weights, and what is known of them before they are read. No Keras is needed here."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kcls.errors import RecipeError

KINDS = (
    "timm/NAME.TAG, timm:FILE (.safetensors, .pth, .pt, .bin), keras/NAME, keras:FILE.weights.h5, package/NAME, "
    "a run or a .keras file"
)
SUFFIXES = {"timm": (".safetensors", ".pth", ".pt", ".bin"), "keras": (".h5",)}


@dataclass(frozen=True)
class Source:
    """A parsed source.

    Attributes:
        text: as the user wrote it.
        library: timm, keras, package or kcls: whose names the weights carry.
        path: of the local file or run; None if the library's server or a Python package has it.
        repository: what to ask the server for, or what the package's weights are of.
        revision: commit, branch or tag of the repository; None is the newest.
    """

    text: str
    library: str
    path: Path | None = None
    repository: str = ""
    revision: str | None = None

    @property
    def architecture(self) -> str | None:
        """The library's name of the architecture, as far as the source tells it."""
        return None if self.path else self.repository.rpartition("/")[2].partition(".")[0]

    @property
    def of_imagenet(self) -> bool:
        """Whether it says that its weights know the 1,000 classes of ImageNet: timm's tags do, as in a1_in1k."""
        return not self.path and (self.library != "timm" or "in1k" in self.repository)


@dataclass(frozen=True)
class Network:
    """Which network a source is of.

    Attributes:
        name: of our variant.
        architecture: the name that the weights' library gives it.
        options: what ``create_model`` needs to build it.
        notes: how it was told, if the source does not say it itself.
    """

    name: str
    architecture: str
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def is_source(text: str) -> bool:
    """Whether a text has the form of weights from another library, right or misspelt; a path that exists is none."""
    form = r"(timm|keras):.+|(timm|keras|package)/[^/@]+(@.+)?"
    return re.fullmatch(form, text) is not None and not Path(text).exists()


def parse_source(text: str) -> Source:
    """Reads the name of a source; a local one must be there.

    Raises:
        RecipeError: it names nothing; the message gives the kinds.
    """
    if match := re.fullmatch(r"timm/([\w.-]+)(?:@([\w./-]+))?", text):
        return Source(text, "timm", repository=f"timm/{match[1]}", revision=match[2])
    if match := re.fullmatch(r"(keras|package)/(\w+)", text):
        return Source(text, match[1], repository=match[2])
    library, colon, name = text.partition(":")
    if colon and library in SUFFIXES:
        if not name.endswith(SUFFIXES[library]):
            raise RecipeError(f"pretrained {text!r}: {library}: takes a {' or '.join(SUFFIXES[library])} file")
    elif not colon:
        library, name = "kcls", text
    else:
        raise RecipeError(f"unknown kind of pretrained weights {text!r}; there are {KINDS}")
    path = Path(name).expanduser()
    if not path.exists():
        raise RecipeError(f"pretrained {text!r}: there is no {path} (kinds of sources: {KINDS})")
    return Source(text, library, path=path)


@dataclass(frozen=True)
class Pretrained:
    """Pretrained weights that are on this machine, and how they want to be used.

    Attributes:
        source: as the user wrote it.
        architecture: the name that the weights' library gives it, None if the file does not say.
        file: the weights.
        sha256: of the file, in hexadecimal digits.
        revision: commit of the hub.
        licence: as the source states it; None if it does not.
        mean: of each channel on a 0..1 scale.
        std: the same of the standard deviation.
        image_size: pixels; None if the source does not say.
        fit: how an image of another shape becomes a square: crop, pad or stretch.
        crop_fraction: the share of the side that the crop keeps.
        interpolation: bilinear or bicubic.
        notes: what was done to read them, and what the file left to be guessed.
        head: "loaded", or "replaced" because the classes differ; None before a model is filled.
    """

    source: str
    architecture: str | None
    file: Path
    sha256: str
    revision: str | None = None
    licence: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    image_size: int | None = None
    fit: str | None = None
    crop_fraction: float | None = None
    interpolation: str | None = None
    notes: tuple[str, ...] = ()
    head: str | None = None

    def image_defaults(self) -> dict[str, Any]:
        """What becomes the default of a recipe's image section."""
        wishes = {key: getattr(self, key) for key in ("mean", "std", "fit", "crop_fraction", "interpolation")}
        return {key: wish for key, wish in {"size": self.image_size, **wishes}.items() if wish is not None}

    def to_dict(self) -> dict[str, Any]:
        """All fields in plain types."""
        return {**asdict(self), "file": str(self.file)}

    def __str__(self) -> str:
        licence = f"licence {self.licence}" if self.licence else "licence not stated"
        return f"{self.source} ({', '.join((*self.notes, f'sha256 {self.sha256[:12]}', licence))})"


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
