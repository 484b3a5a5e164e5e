"""The sections of a recipe, as frozen, validated objects.

Nothing that changes the meaning of the data has a hidden default: the splits, the image size and whether a
mirrored image keeps its class must be stated.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from kcls.formats import QUANTIZATIONS, QUANTIZED, FormatName, QuantizeName
from kcls.section import Fraction, Positive, Section, Size
from kcls.splits import certainly_overlap
from kcls.train_section import Stage, TrainSection
from kcls.yaml_lines import dump_yaml

Channels = Annotated[tuple[Fraction, Fraction, Fraction], Field(strict=False)]


def _number(value: Any) -> int | float | bool:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected a number or true or false, not {value!r}")
    return value


class ModelSection(Section):
    """Which network. ``options`` are numeric options of its builder, see ``kcls models NAME``.

    ``pretrained`` names the weights to start from, see ``kcls.load_pretrained``; ``pretrained_sha256`` pins the file.
    """

    name: str
    pretrained: str | None = None
    pretrained_sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    drop_rate: Annotated[float, Field(ge=0, lt=1)] | None = None
    options: dict[str, Annotated[Any, AfterValidator(_number)]] = {}

    def idle(self):
        """See ``Section.idle``."""
        return {} if self.pretrained else {"pretrained_sha256": "without pretrained"}


class MethodSection(Section):
    """How the network is trained, if not in the plain way: a method of ``kcls.methods`` and its options.

    ``auxiliary_heads``: ``weight`` is the factor of each auxiliary loss (arXiv:1409.4842, section 5). A network with
    auxiliary heads is trained so without being told.
    """

    name: Literal["auxiliary_heads"]
    weight: Positive = 0.3


class DataSection(Section):
    """Where the images come from, and which of them are for what.

    ``source`` is ``folder`` (with ``path``) or the name of a TensorFlow data set, ``name[/config][:version]``.
    A split is ``name`` or ``name[from%:to%]``; a flat folder's only split is ``all``.
    """

    source: str
    path: str | None = None
    data_dir: str | None = None
    train: str
    val: str
    test: str | None = None
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @property
    def kind(self) -> Literal["folder", "tfds"]:
        """What kind of place the source is."""
        return "folder" if self.source == "folder" else "tfds"

    def idle(self):
        """See ``Section.idle``."""
        return {
            "folder": {"data_dir": "with source 'folder', whose images are at path"},
            "tfds": dict.fromkeys(("path", "split_seed"), "unless source is 'folder'"),
        }[self.kind]

    @model_validator(mode="after")
    def _consistent(self):
        if self.kind == "folder" and not self.path:
            raise ValueError("source 'folder' needs path: the folder that holds the images")
        for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
            x, y = getattr(self, a), getattr(self, b)
            if y and certainly_overlap(x, y, union=None if self.kind == "folder" else "all"):
                raise ValueError(f"{a} ({x}) and {b} ({y}) share images")
        return self


class ImageSection(Section):
    """How an image becomes what the network sees: a square of ``size`` x ``size`` pixels, and its normalisation.

    ``mean`` and ``std`` are those of each channel on a 0..1 scale; left out, they are the network's own, 0.5 for most.
    With ``model.pretrained``, what is left out is as the weights want it.
    """

    size: Annotated[int, Field(ge=8, le=4096)] | None = None
    fit: Literal["crop", "pad", "stretch"] = "crop"
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: Channels | None = None
    std: Channels | None = None

    def idle(self):
        """See ``Section.idle``."""
        return {"crop_fraction": "with fit 'pad', which shows the whole image"} if self.fit == "pad" else {}

    @model_validator(mode="after")
    def _consistent(self):
        if self.std and min(self.std) <= 0:
            raise ValueError(f"std must be above 0 in every channel, not {list(self.std)}")
        return self


class AugmentSection(Section):
    """Changes of the training images. ``flip`` has no default: a mirrored road sign is another sign.

    ``random_resized_crop`` shows a random box of the image instead of the square that evaluation sees: its area is
    between these two fractions of the image's, its width 3/4 to 4/3 of its height (``[0.08, 1]`` for ImageNet).
    """

    flip: bool
    random_resized_crop: Annotated[tuple[Fraction, Fraction], Field(strict=False)] | None = None
    crop_padding: Annotated[int, Field(ge=0)] = 0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @property
    def changes(self) -> bool:
        """Whether a training image ever differs from the square that evaluation sees."""
        return any(getattr(self, name) for name in type(self).model_fields)

    def idle(self):
        """See ``Section.idle``."""
        return {"crop_padding": "with random_resized_crop, which crops already"} if self.random_resized_crop else {}

    @model_validator(mode="after")
    def _consistent(self):
        area = self.random_resized_crop
        if area and not 0 < area[0] <= area[1]:
            raise ValueError(f"random_resized_crop is the least and the largest fraction of the area, not {list(area)}")
        return self


class OptimizerSection(Section):
    """SGD with momentum (weight decay is added to the gradient, as in the papers) or AdamW (decoupled).

    ``schedule`` cosine ends at 0; step multiplies by ``decay`` at each epoch of ``milestones``; the first
    ``warmup_epochs`` rise linearly from 0. Biases and norms are not decayed.
    """

    name: Literal["sgd", "adamw"]
    lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    milestones: Annotated[tuple[float, ...], Field(strict=False)] = ()
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.1

    def idle(self):
        """See ``Section.idle``."""
        fields: dict[str, str] = {}
        if self.name != "sgd":
            fields |= dict.fromkeys(("momentum", "nesterov"), f"with {self.name}, only with sgd")
        if self.schedule != "step":
            fields |= dict.fromkeys(("milestones", "decay"), f"with schedule {self.schedule!r}, only with 'step'")
        return fields

    @model_validator(mode="after")
    def _consistent(self):
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum above 0")
        if self.schedule == "step" and not self.milestones:
            raise ValueError("schedule 'step' needs milestones: the epochs at which lr is multiplied by decay")
        if list(self.milestones) != sorted(set(self.milestones)) or any(m <= 0 for m in self.milestones):
            raise ValueError(f"milestones must rise and be above 0, not {list(self.milestones)}")
        return self


class ExportSection(Section):
    """What ``kcls train`` exports at its end, and the default of ``kcls export``.

    A quantized file is refused if it loses more than ``max_drop`` of the model's top-1, or gives the model's answer
    for less than ``min_agreement`` of the held-out images; both are fractions. Any TFLite file is refused if it is
    larger than ``max_size`` (``4MB``, ``300KiB``, or bytes) or takes longer than ``max_latency_ms`` for an image, on
    one thread of this machine. ``quantize: auto`` tries the ways of quantizing for one that is within these limits.
    ``calibration_images``: how many training images set the ranges of int8.
    """

    formats: Annotated[tuple[FormatName, ...], Field(strict=False)]
    quantize: QuantizeName = "none"
    max_drop: Fraction = 0.01
    min_agreement: Fraction = 0.9
    max_size: Size | None = None
    max_latency_ms: Positive | None = None
    calibration_images: Annotated[int, Field(ge=1)] = 256

    def idle(self):
        """See ``Section.idle``."""
        if not set(QUANTIZED) & set(self.formats):
            gate = ("quantize", "calibration_images", "max_drop", "min_agreement", "max_size", "max_latency_ms")
            return dict.fromkeys(gate, f"without format {' or '.join(map(repr, QUANTIZED))}")
        fields: dict[str, str] = {}
        if self.quantize != "auto" and not QUANTIZATIONS[self.quantize].calibrated:
            fields["calibration_images"] = f"with quantize {self.quantize!r}, which needs no images"
        if self.quantize == "none":
            fields |= dict.fromkeys(("max_drop", "min_agreement"), "without quantize: a float file must be exact")
        return fields

    @model_validator(mode="after")
    def _consistent(self):
        if not self.formats:
            raise ValueError("formats is empty: name saved_model, tflite, web or several, or leave the section out")
        return self


class Recipe(Section):
    """Everything that defines a run."""

    model: ModelSection
    method: MethodSection | None = None
    data: DataSection
    image: ImageSection = ImageSection()
    augment: AugmentSection
    optimizer: OptimizerSection
    train: TrainSection
    export: ExportSection | None = None

    @model_validator(mode="after")
    def _consistent(self):
        if self.image.size is None and not self.model.pretrained:
            raise ValueError("image.size is missing")
        stages, shortest = self.train.all_stages, min(stage.epochs for stage in self.train.all_stages)
        which = "the shortest of train.stages" if self.train.stages else "train.epochs"
        if self.optimizer.warmup_epochs >= shortest:
            raise ValueError(
                f"optimizer.warmup_epochs ({self.optimizer.warmup_epochs:g}) must be below {which} ({shortest})"
            )
        late = [m for m in self.optimizer.milestones if m >= shortest]
        if late:
            raise ValueError(f"optimizer.milestones {late} would never be reached: {which} is {shortest}")
        self._check_frozen(stages)
        wanted = self.train.ends_as
        if wanted and self.export and set(QUANTIZED) & set(self.export.formats) and self.export.quantize != wanted:
            raise ValueError(f"export.quantize is {self.export.quantize!r}, and train.quantize_aware is for {wanted!r}")
        if self.image.size and self.augment.crop_padding >= self.image.size:
            raise ValueError(
                f"augment.crop_padding ({self.augment.crop_padding} px) must be below image.size ({self.image.size} px)"
            )
        return self

    def _check_frozen(self, stages: tuple[Stage, ...]) -> None:
        if stages[0].freeze and not self.model.pretrained:
            raise ValueError(
                f"train.freeze {stages[0].freeze!r} needs model.pretrained: random weights that stay as they are "
                "have learnt nothing"
            )
        if self.method and all(stage.freeze == "backbone" for stage in stages):
            raise ValueError(f"method {self.method.name!r} has no effect on a head alone: train.freeze is 'backbone'")
        for stage in stages:
            if stage.views > 1 and not self.augment.changes:
                raise ValueError(f"train.views {stage.views} has no effect: the augment section changes nothing")

    def with_image(self, defaults: Mapping[str, Any]) -> "Recipe":
        """This recipe, with defaults for what its image section leaves out."""
        values = {name: getattr(self.image, name) for name in self.image.model_fields_set}
        stated = {name: value for name, value in values.items() if value is not None}
        defaults = {key: value for key, value in defaults.items() if key not in stated}
        if {**defaults, **stated}.get("fit") == "pad":
            defaults.pop("crop_fraction", None)
        sections = {name: getattr(self, name) for name in type(self).model_fields}
        return Recipe(**{**sections, "image": ImageSection(**{**defaults, **stated})})

    def to_yaml(self) -> str:
        """The recipe with every default written out; itself a valid recipe."""
        return dump_yaml(self.resolved())
