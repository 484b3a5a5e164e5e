"""The recipe's train section: how long, and in which stages."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kcls.section import Count, Positive, Section

Frozen = Literal["backbone", "norms"]
Aware = bool | Literal["mixed"]
_NO_VIEWS = {"views": "unless freeze is 'backbone'"}


class Stage(Section):
    """A part of the training with a learning rate schedule of its own: a rise, then the way down.

    ``freeze`` is what stays as it is. ``backbone``: all but the head. Each image then goes through the network only
    ``views`` times, first as it is and then with random changes; the epochs take the views in turn, and compute
    nothing but the head. ``norms``: the factors, offsets and statistics of batch norms, which a small data set cannot
    measure. ``lr`` replaces ``optimizer.lr``. ``quantize_aware`` trains the network as its int8 file will compute, or
    with ``mixed`` as its file of quantize ``mixed``, see ``kcls.quantize_aware``; the stages after it do so, too.
    """

    epochs: Count
    freeze: Frozen | None = None
    views: Count = 1
    lr: Positive | None = None
    quantize_aware: Aware = False

    def idle(self):
        """See ``Section.idle``."""
        return {} if self.freeze == "backbone" else _NO_VIEWS

    @model_validator(mode="after")
    def _consistent(self):
        if self.quantize_aware and self.freeze == "backbone":
            raise ValueError("quantize_aware trains all kernels, and freeze 'backbone' the head alone")
        return self


class TrainSection(Section):
    """How long, how many at once (over all replicas), how exact, on what. ``epochs`` passes over ``train``.

    ``stages`` follow each other, each with its own ``epochs``, ``freeze``, ``views``, ``lr``, ``quantize_aware``: see
    ``Stage``. Without them there is one, with the ``epochs``, ``freeze``, ``views`` and ``quantize_aware`` given here.
    ``norm_momentum`` is the weight of the old statistics of batch norms, None is the network's own: EfficientNet's
    0.99 takes 500 steps to forget the images that pretrained weights were made with, 0.9 takes 50.
    """

    epochs: Count | None = None
    freeze: Frozen | None = None
    views: Count = 1
    quantize_aware: Aware = False
    stages: Annotated[tuple[Stage, ...], Field(strict=False)] = ()
    batch_size: Count
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    norm_momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    strategy: Literal["auto", "one_device", "mirrored"] = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @property
    def all_stages(self) -> tuple[Stage, ...]:
        """The stages, or the one that the section describes without them."""
        if self.stages or self.epochs is None:
            return self.stages
        views = {"views": self.views} if self.freeze == "backbone" else {}
        return (Stage(epochs=self.epochs, freeze=self.freeze, quantize_aware=self.quantize_aware, **views),)

    @property
    def ends_as(self) -> Literal["int8", "mixed"] | None:
        """For which quantization the network is aware that is trained in the end; None if it is an ordinary one."""
        aware = self.all_stages[-1].quantize_aware
        return "mixed" if aware == "mixed" else "int8" if aware else None

    @property
    def total_epochs(self) -> int:
        """The epochs of all stages together."""
        return sum(stage.epochs for stage in self.all_stages)

    def idle(self):
        """See ``Section.idle``."""
        if self.stages:
            return dict.fromkeys(("epochs", "freeze", "views", "quantize_aware"), "beside stages, which have their own")
        return {"stages": "if there are none"} | ({} if self.freeze == "backbone" else _NO_VIEWS)

    @model_validator(mode="after")
    def _consistent(self):
        if not self.all_stages:
            raise ValueError("epochs is missing, or stages")
        aware = [stage.quantize_aware for stage in self.all_stages]
        first = next((number for number, each in enumerate(aware) if each), len(aware))
        if len(set(aware[first:])) > 1:
            raise ValueError("stages: once one is quantize_aware, those after it are, too, in the same way")
        return self
