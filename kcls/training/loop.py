"""The loop: epochs of steps under a strategy, validation, checkpoints, and the reasons to stop."""

import math
import os
import shlex
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from kcls.data.reading import reading
from kcls.errors import DataError, Interrupted, KclsError
from kcls.models.count import trainable_params
from kcls.training.checkpoint import save_checkpoint
from kcls.training.feed import Feed, make_feed
from kcls.training.objective import measured
from kcls.training.progress import TensorBoard, TrainingDisplay
from kcls.training.signals import StopSignals
from kcls.training.stages import begin_stage
from kcls.training.state import RunningStage, Training

UNREAD_STEPS = 8  # that a device may be ahead of the loop; every loss is read, later


def make_train_step(model: keras.Model, strategy: tf.distribute.Strategy) -> Callable[..., tf.Tensor]:
    """A graph that takes a batch, does a step, and returns the epoch's mean loss so far."""
    step = tf.function(model.train_step, jit_compile=True) if model.jit_compile else model.train_step

    @tf.function(reduce_retracing=True)
    def train_step(batch):
        logs = strategy.run(step, args=(batch,))
        return strategy.reduce("MEAN", logs["loss"], axis=None)

    return train_step


def run_epochs(training: Training) -> None:
    """Trains to the end of the recipe, from ``training.step`` on, in the stage that was begun and those after it.

    Raises:
        DataError: an image cannot be decoded; a checkpoint was written.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        KclsError: the loss is not finite.
    """
    run, stages = training.run, training.recipe.train.all_stages
    with (
        TrainingDisplay(run.path / "train.log", training.total_steps, training.step) as display,
        TensorBoard(run.path / "tensorboard") as board,
        StopSignals() as stop,
    ):
        display.say(_headline(training))
        for number in range(training.stage_number, len(stages)):
            if training.running is None or training.running.number != number:
                begin_stage(training, number)
            if len(stages) > 1 or stages[number].freeze or stages[number].quantize_aware:
                display.say(_stage_line(training.stage, len(stages)))
            feed = make_feed(training, lambda: _look_between(training, stop))
            _run_stage(training, feed, display, board, stop)


def _run_stage(training: Training, feed: Feed, display: TrainingDisplay, board: TensorBoard, stop: StopSignals) -> None:
    run, stage = training.run, training.stage
    train_step, val_step = make_train_step(stage.method, training.strategy), _make_val_step(training)
    batches = _training_batches(training, feed)
    while training.step < stage.end * training.steps:
        row = _train(training, train_step, batches, display, stop)
        row |= _validate(training, val_step, feed)
        _keep_if_best(training, row)
        run.write_history([*run.history(), row])
        board.epoch(row)
        display.epoch(row, training.recipe.train.total_epochs)
        _save(training)
        if stop.received and training.step < training.total_steps:
            _stop_interrupted(training, stop.received)


def _train(training: Training, train_step, batches: Iterator, display: TrainingDisplay, stop: StopSignals) -> dict:
    """The rest of an epoch; returns its row."""
    epoch, first = divmod(training.step, training.steps)
    began = time.perf_counter()
    if first == 0:
        training.stage.method.reset_metrics()
    losses: deque[tuple[int, tf.Tensor]] = deque()

    def look(most: int) -> None:
        """Reads the oldest losses until ``most`` are left; reading one waits until its step is done."""
        while len(losses) > most:
            step, loss = losses.popleft()
            _check_finite(training, step, float(loss))
            display.step(epoch, step, float(loss))

    for _ in range(first, training.steps):
        losses.append((training.step + 1, train_step(next(batches))))
        training.step += 1
        look(UNREAD_STEPS)
        if stop.received and training.step % training.steps:  # after the last step, the epoch is finished first
            look(0)
            _stop_interrupted(training, stop.received)
    look(0)
    return _epoch_row(training, epoch, training.steps - first, began)


def _make_val_step(training: Training) -> Callable[..., None]:
    @tf.function(reduce_retracing=True)
    def val_step(batch):
        training.strategy.run(training.stage.method.test_step, args=(batch,))

    return val_step


def _headline(training: Training) -> str:
    recipe, train_split = training.recipe, training.train
    start = f"resumed at step {training.step}, " if training.step else ""
    if training.pretrained:
        start = f"from {training.pretrained}, head {training.pretrained.head}; "
    return (
        f"{training.run.path}: {start}{recipe.model.name}, {trainable_params(training.network):,} parameters; "
        f"{recipe.data.source}, {len(train_split.class_names)} classes, {train_split.count:,} training and "
        f"{training.val.count:,} validation images; {training.strategy.num_replicas_in_sync} replica(s)"
    )


def _stage_line(stage: RunningStage, count: int) -> str:
    views = f", {stage.options.views} views of each image" if stage.options.views > 1 else ""
    what = {
        "backbone": f"the head, on features of the frozen backbone{views}",
        "norms": "all but batch norms",
        None: "the whole network",
    }[stage.options.freeze]
    what += ", as its quantized file computes" if stage.options.quantize_aware else ""
    return f"stage {stage.number + 1} of {count}: {what}; epochs {stage.first_epoch + 1} to {stage.end}"


def _training_batches(training: Training, feed: Feed) -> Iterator:
    """The batches of all steps that are left; after a broken image, what was done is saved before the error."""
    recipe, source = training.recipe, training.train
    batch_size = recipe.train.batch_size
    batches = iter(training.strategy.experimental_distribute_dataset(feed.training(training.step)))
    while True:
        epoch, step = divmod(training.step, training.steps)
        try:
            yield reading(source, lambda: next(batches), (recipe.train.seed, epoch), step * batch_size)
        except DataError as error:
            if not training.step:
                raise
            _save(training)
            raise DataError(f"{error}\n{_saved(training)}, once they are repaired") from None


def _epoch_row(training: Training, epoch: int, steps: int, began: float) -> dict[str, Any]:
    seconds = time.perf_counter() - began
    return {
        "epoch": epoch + 1,
        "step": training.step,
        **measured(training.stage.method.get_metrics_result()),
        "lr": training.lr(training.step),
        "images_per_second": steps * training.recipe.train.batch_size / seconds,
        "seconds": seconds,
    }


def _validate(training: Training, val_step, feed: Feed) -> dict[str, Any]:
    method = training.stage.method
    method.reset_metrics()
    batches = iter(training.strategy.experimental_distribute_dataset(feed.validation()))
    while (batch := reading(training.val, lambda: next(batches, None))) is not None:
        val_step(batch)
    values = {f"val_{name}": value for name, value in measured(method.get_metrics_result()).items()}
    _check_finite(training, training.step, values["val_loss"], "validation loss")
    del values["val_objective"]
    return values


def _keep_if_best(training: Training, row: dict[str, Any]) -> None:
    """Keeps the network's weights if the epoch is the best so far, of what the method watches."""
    watched = training.stage.method.watched
    row["best"] = training.best is None or watched.rank(row) > watched.rank(training.best)
    if row["best"]:
        training.best = {key: row[key] for key in ("epoch", watched.key, "val_loss")}
        save_checkpoint(training.run.best_checkpoint, training.network.weights, training.best)


def _save(training: Training) -> None:
    last = training.run.last_checkpoint
    if last.is_file():
        os.replace(last, training.run.previous_checkpoint)
    save_checkpoint(last, training.variables, {"step": training.step, "best": training.best})


def _check_finite(training: Training, step: int, loss: float, name: str = "loss") -> None:
    if math.isfinite(loss):
        return
    epoch, in_epoch = divmod(step - 1, training.steps)
    saved = "the last whole epoch is saved" if training.run.can_be_restored else "nothing was saved yet"
    raise KclsError(
        f"the {name} is {loss} at step {step} (epoch {epoch + 1}, step {in_epoch + 1} of {training.steps}), "
        f"learning rate {training.lr(step):.3g}; {saved}. "
        "A lower optimizer.lr or a longer optimizer.warmup_epochs usually helps"
    )


def _stop_interrupted(training: Training, number: int) -> None:
    _save(training)
    raise Interrupted(f"{signal.Signals(number).name}: {_saved(training)}", number)


def _look_between(training: Training, stop: StopSignals) -> None:
    """Stops between two stages, where the last epoch is saved already, or before the first."""
    if stop.received:
        saved = _saved(training) if training.step else "nothing was trained yet; start it again"
        raise Interrupted(f"{signal.Signals(stop.received).name}: {saved}", stop.received)


def _saved(training: Training) -> str:
    return (
        f"saved at step {training.step} of {training.total_steps}; go on with "
        f"`kcls train --resume --out {shlex.quote(str(training.run.path))}`"
    )
