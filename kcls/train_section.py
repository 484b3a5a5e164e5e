"""The recipe's train section: how long, and in which stages."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kcls.section import Count, Positive, Section

Frozen = Literal["backbone", "norms"]
_NO_VIEWS = {"views": "unless freeze is 'backbone'"}


class Stage(Section):
    """A part of the training with a learning rate schedule of its own: a rise, then the way down.

    ``freeze`` is what stays as it is. ``backbone``: all but the head. Each image then goes through the network only
    ``views`` times, first as it is and then with random changes; the epochs take the views in turn, and compute
    nothing but the head. ``norms``: the factors, offsets and statistics of batch norms, which a small data set cannot
    measure. ``lr`` replaces ``optimizer.lr``.
    """

    epochs: Count
    freeze: Frozen | None = None
    views: Count = 1
    lr: Positive | None = None

    def idle(self):
        """See ``Section.idle``."""
        return {} if self.freeze == "backbone" else _NO_VIEWS


class TrainSection(Section):
    """How long, how many at once (over all replicas), how exact, on what. ``epochs`` passes over ``train``.

    ``stages`` follow each other, each with its own ``epochs``, ``freeze``, ``views`` and ``lr``, see ``Stage``.
    Without them, there is one, which has the ``epochs``, ``freeze`` and ``views`` of this section.
    ``norm_momentum`` is the weight of the old statistics of batch norms, None is the network's own: EfficientNet's
    0.99 takes 500 steps to forget the images that pretrained weights were made with, 0.9 takes 50.
    """

    epochs: Count | None = None
    freeze: Frozen | None = None
    views: Count = 1
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
        return (Stage(epochs=self.epochs, freeze=self.freeze, **views),)

    @property
    def total_epochs(self) -> int:
        """The epochs of all stages together."""
        return sum(stage.epochs for stage in self.all_stages)

    def idle(self):
        """See ``Section.idle``."""
        if self.stages:
            return dict.fromkeys(("epochs", "freeze", "views"), "beside stages, which have their own")
        return {"stages": "if there are none"} | ({} if self.freeze == "backbone" else _NO_VIEWS)

    @model_validator(mode="after")
    def _consistent(self):
        if not self.all_stages:
            raise ValueError("epochs is missing, or stages")
        return self
