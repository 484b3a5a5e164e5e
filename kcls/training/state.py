"""What a training is made of, and where it stands."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import keras
import tensorflow as tf

from kcls.data.source import Source
from kcls.methods import Method
from kcls.models.roles import TO_HEAD
from kcls.recipe import Recipe
from kcls.run import Run
from kcls.train_section import Stage
from kcls.training.optimizer import Schedule
from kcls.weights.source import Pretrained


@dataclass(frozen=True)
class RunningStage:
    """A stage of the recipe, ready to be trained.

    Attributes:
        options: what the recipe says of it.
        number: from 0.
        first_epoch: epochs of the stages before it.
        method: compiled, with all its variables.
        schedule: the learning rate of each of its steps, which count from 0.
    """

    options: Stage
    number: int
    first_epoch: int
    method: Method
    schedule: Schedule

    @property
    def end(self) -> int:
        """The epochs up to its end, of the whole training."""
        return self.first_epoch + self.options.epochs


@dataclass
class Training:
    """What the loop works on."""

    recipe: Recipe
    run: Run
    strategy: tf.distribute.Strategy
    network: keras.Model
    train: Source
    val: Source
    steps: int  # in one epoch
    step: int = 0  # done in all
    best: dict[str, Any] | None = None
    pretrained: Pretrained | None = None  # what this start began with
    running: RunningStage | None = None

    @property
    def stage(self) -> RunningStage:
        """The stage that is being trained."""
        if self.running is None:
            raise RuntimeError("no stage was begun")
        return self.running

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.steps * self.recipe.train.total_epochs

    @property
    def stage_number(self) -> int:
        """The number, from 0, of the stage of the next step; of the last stage when all is done."""
        ends = [*accumulate(stage.epochs for stage in self.recipe.train.all_stages)]
        return min(bisect_right(ends, self.step // self.steps), len(ends) - 1)

    @property
    def variables(self) -> list:
        """Everything that changes: weights, random states, optimizer, metrics."""
        method = self.stage.method
        own = method.variables if method.network is self.network else self.network.variables
        return [*own, *method.optimizer.variables, *method.metrics_variables]

    def lr(self, step: int) -> float:
        """The learning rate of a step of this stage; the steps of the training count from 1."""
        return float(self.stage.schedule(step - 1 - self.stage.first_epoch * self.steps))

    @cached_property
    def backbone(self) -> keras.Model:
        """Images (B, S, S, 3) -> features (B, C)."""
        return keras.Model(self.network.input, self.network.get_layer(TO_HEAD).output)

    @cached_property
    def head(self) -> keras.Model:
        """Features (B, C) -> logits, with the network's own layers."""
        return keras.Model(self.network.get_layer(TO_HEAD).output, self.network.output, name=self.network.name)
