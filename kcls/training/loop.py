"""The loop: epochs of steps under a strategy, validation, checkpoints, and the reasons to stop."""

import math
import shlex
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from kcls.data.sources import Split, reading
from kcls.data.stream import evaluation_stream, training_epoch
from kcls.errors import Interrupted, KclsError
from kcls.methods import Method
from kcls.models.count import trainable_params
from kcls.recipe import Recipe
from kcls.run import Run
from kcls.training.checkpoint import save_checkpoint
from kcls.training.objective import measured, validated
from kcls.training.optimizer import Schedule
from kcls.training.progress import TrainingDisplay
from kcls.training.signals import StopSignals
from kcls.weights.source import Pretrained


@dataclass
class Training:
    """What the loop works on."""

    recipe: Recipe
    run: Run
    strategy: tf.distribute.Strategy
    model: Method
    schedule: Schedule
    train: Split
    val: Split
    steps: int  # in one epoch
    step: int = 0  # done in all
    best: dict[str, Any] | None = None
    pretrained: Pretrained | None = None  # what this start began with

    @property
    def variables(self) -> list:
        """Everything that changes: weights, random states, optimizer, metrics."""
        model = self.model
        return [*model.variables, *model.optimizer.variables, *model.metrics_variables]


def make_train_step(model: keras.Model, strategy: tf.distribute.Strategy) -> Callable[..., tf.Tensor]:
    """A graph that takes a batch, does a step, and returns the epoch's mean loss so far."""

    @tf.function(reduce_retracing=True)
    def train_step(batch):
        logs = strategy.run(model.train_step, args=(batch,))
        return strategy.reduce("MEAN", logs["loss"], axis=None)

    return train_step


def run_epochs(training: Training) -> None:
    """Trains to the end of the recipe, from ``training.step`` on.

    Raises:
        DataError: an image cannot be decoded.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        KclsError: the loss is not finite.
    """
    recipe, model, run, steps = training.recipe, training.model, training.run, training.steps
    epochs, strategy = recipe.train.epochs, training.strategy

    train_step = make_train_step(model, strategy)

    @tf.function(reduce_retracing=True)
    def val_step(batch):
        strategy.run(model.test_step, args=(batch,))

    board = tf.summary.create_file_writer(str(run.path / "tensorboard"))
    with (
        TrainingDisplay(run.path / "train.log", steps * epochs, training.step) as display,
        StopSignals() as stop,
    ):
        display.say(_headline(training))
        for epoch in range(training.step // steps, epochs):
            began, first = time.perf_counter(), training.step % steps
            if first == 0:
                model.reset_metrics()
            batches = training_epoch(training.train, recipe, recipe.train.batch_size, epoch, first)
            for batch in _distributed(strategy, training.train, batches):
                loss = float(train_step(batch))
                training.step += 1
                if not math.isfinite(loss):
                    _stop_not_finite(training, loss)
                if stop.received and training.step % steps:  # after the last step, the epoch is finished first
                    _stop_interrupted(training, stop.received)
                display.step(epoch, training.step, loss)
            row = _epoch_row(training, epoch, (steps - first), began)
            row |= _validate(training, val_step)
            if not math.isfinite(row["val_loss"]):
                _stop_not_finite(training, row["val_loss"], "validation loss")
            _keep_if_best(training, row)
            run.write_history([*run.history(), row])
            with board.as_default(training.step):
                names = validated(row)
                for key in (*names, *(f"val_{name}" for name in names), "lr", "images_per_second"):
                    tf.summary.scalar(key, row[key])
            board.flush()
            display.epoch(row, epochs)
            _save(training)
            if stop.received and epoch + 1 < epochs:
                _stop_interrupted(training, stop.received)
    board.close()


def _headline(training: Training) -> str:
    recipe, train_split = training.recipe, training.train
    start = f"resumed at step {training.step}, " if training.step else ""
    if training.pretrained:
        start = f"from {training.pretrained}, head {training.pretrained.head}; "
    return (
        f"{training.run.path}: {start}{recipe.model.name}, {trainable_params(training.model.network):,} parameters; "
        f"{recipe.data.source}, {len(train_split.class_names)} classes, {train_split.count:,} training and "
        f"{training.val.count:,} validation images; {training.strategy.num_replicas_in_sync} replica(s)"
    )


def _distributed(strategy: tf.distribute.Strategy, split: Split, batches: tf.data.Dataset):
    """The batches, split over the replicas; a broken image ends in an error that names it."""
    iterator = iter(strategy.experimental_distribute_dataset(batches))
    while (batch := reading(split, lambda: next(iterator, None))) is not None:
        yield batch


def _epoch_row(training: Training, epoch: int, steps: int, began: float) -> dict[str, Any]:
    seconds = time.perf_counter() - began
    return {
        "epoch": epoch + 1,
        "step": training.step,
        **measured(training.model.get_metrics_result()),
        "lr": float(training.schedule(training.step - 1)),
        "images_per_second": steps * training.recipe.train.batch_size / seconds,
        "seconds": seconds,
    }


def _validate(training: Training, val_step) -> dict[str, Any]:
    model, batch_size = training.model, training.recipe.train.batch_size
    model.reset_metrics()
    batches = evaluation_stream(training.val, batch_size, padded=True)
    for batch in _distributed(training.strategy, training.val, batches):
        val_step(batch)
    values = measured(model.get_metrics_result())
    return {f"val_{name}": value for name, value in values.items() if name != "objective"}


def _keep_if_best(training: Training, row: dict[str, Any]) -> None:
    """Keeps the network's weights if the epoch is the best so far, of what the method watches."""
    watched = training.model.watched
    row["best"] = training.best is None or watched.rank(row) > watched.rank(training.best)
    if row["best"]:
        training.best = {key: row[key] for key in ("epoch", watched.key, "val_loss")}
        save_checkpoint(training.run.best_checkpoint, training.model.network.weights, training.best)


def _save(training: Training) -> None:
    save_checkpoint(training.run.last_checkpoint, training.variables, {"step": training.step, "best": training.best})


def _stop_not_finite(training: Training, loss: float, name: str = "loss") -> None:
    epoch, step = divmod(training.step - 1, training.steps)
    saved = "the last whole epoch is saved" if training.run.last_checkpoint.is_file() else "nothing was saved yet"
    raise KclsError(
        f"the {name} is {loss} at step {training.step} (epoch {epoch + 1}, step {step + 1} of {training.steps}), "
        f"learning rate {float(training.schedule(training.step - 1)):.3g}; {saved}. "
        "A lower optimizer.lr or a longer optimizer.warmup_epochs usually helps"
    )


def _stop_interrupted(training: Training, number: int) -> None:
    _save(training)
    raise Interrupted(
        f"{signal.Signals(number).name}: saved at step {training.step} of "
        f"{training.steps * training.recipe.train.epochs}; go on with "
        f"`kcls train --resume --out {shlex.quote(str(training.run.path))}`",
        number,
    )
