"""Optimizers with the papers' weight decay, and the learning rate over the steps."""

import math

import keras
from keras import ops

from kcls.models.roles import is_decayed
from kcls.sections import OptimizerSection


@keras.saving.register_keras_serializable("kcls")
class SGD(keras.optimizers.SGD):
    """SGD with momentum whose weight decay is added to the gradient, before the momentum.

    This is the L2 penalty of the residual networks' papers and PyTorch's ``weight_decay``; the one of
    ``keras.optimizers.SGD`` is decoupled from the momentum and about ten times weaker at momentum 0.9.
    """

    def __init__(self, learning_rate=0.01, l2: float = 0.0, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.l2 = l2

    def build(self, variables):
        """Makes the momenta, and notes which variables are decayed: only here they have their marks."""
        if not self.built:
            self.decayed = tuple(map(is_decayed, variables))
        super().build(variables)

    def update_step(self, gradient, variable, learning_rate):
        """One step of one variable; the gradient is already summed over the replicas."""
        if self.l2 and self.decayed[self._get_variable_index(variable)]:
            gradient = ops.add(gradient, ops.multiply(variable, ops.cast(self.l2, variable.dtype)))
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        """Configuration for saving."""
        return {**super().get_config(), "l2": self.l2}


@keras.saving.register_keras_serializable("kcls")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate of each step: a linear rise to ``lr``, then cosine to 0, steps, or constant.

    Args:
        lr: the highest learning rate.
        total: steps in the whole training.
        warmup: steps of the rise; the last of them has ``lr``.
        kind: ``cosine`` (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts), ``step``, ``constant``.
        milestones: steps at which ``step`` multiplies by ``decay``.
        decay: factor of ``step``.
    """

    def __init__(self, lr, total, warmup=0, kind="cosine", milestones=(), decay=0.1):
        self.lr, self.total, self.warmup = lr, total, warmup
        self.kind, self.milestones, self.decay = kind, tuple(milestones), decay

    def __call__(self, step):
        """The learning rate of ``step``, which counts from 0."""
        step = ops.cast(step, "float32")
        if self.kind == "cosine":
            progress = (step - self.warmup) / max(self.total - self.warmup, 1)
            factor = 0.5 * (1 + ops.cos(math.pi * ops.clip(progress, 0, 1)))
        elif self.kind == "step":
            passed = sum(ops.cast(step >= m, "float32") for m in self.milestones)
            factor = ops.power(self.decay, passed)
        else:
            factor = ops.ones_like(step)
        if self.warmup:
            factor = ops.where(step < self.warmup, (step + 1) / self.warmup, factor)
        return self.lr * factor

    def get_config(self):
        """Configuration for saving."""
        return dict(vars(self))


def make_schedule(options: OptimizerSection, *, steps_per_epoch: int, epochs: int, lr: float | None = None) -> Schedule:
    """The learning rate over the steps of a training, or of a stage, which may have its own ``lr``."""
    return Schedule(
        options.lr if lr is None else lr,
        total=steps_per_epoch * epochs,
        warmup=round(options.warmup_epochs * steps_per_epoch),
        kind=options.schedule,
        milestones=[round(m * steps_per_epoch) for m in options.milestones],
        decay=options.decay,
    )


def make_optimizer(
    options: OptimizerSection, schedule: Schedule, variables, *, scale_loss: bool = False
) -> keras.optimizers.Optimizer:
    """The optimizer of a recipe, built for ``variables``.

    With ``scale_loss``, which float16 needs, the loss is multiplied by a large number, so that small gradients do not
    become 0, and the gradients are divided by it again; a step whose gradients are too large is left out, and the
    number halved.
    """
    if options.name == "sgd":
        optimizer = SGD(schedule, momentum=options.momentum, nesterov=options.nesterov, l2=options.weight_decay)
    else:
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=options.weight_decay)
        optimizer.exclude_from_weight_decay(var_list=[v for v in variables if not is_decayed(v)])
    if scale_loss:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer
