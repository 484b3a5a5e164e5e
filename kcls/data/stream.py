"""Batches for training and evaluation, on one device or to be split over replicas and workers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kcls.data.augment import training_view
from kcls.data.preprocess import Preprocess
from kcls.data.source import Order, Source
from kcls.errors import DataError
from kcls.recipe import Recipe


@dataclass(frozen=True)
class Part:
    """Which share of each batch a worker reads: the one of number ``rank``, from 0, of ``of`` equal ones."""

    rank: int = 0
    of: int = 1

    def share(self, tickets: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """The tickets of this share, from those of whole batches of ``batch_size``."""
        if self.of == 1:
            return tickets
        mine = tickets.enumerate().filter(lambda n, _: n % batch_size // (batch_size // self.of) == self.rank)
        return mine.map(lambda _, ticket: ticket)


def steps_per_epoch(source: Source, batch_size: int) -> int:
    """Full batches in one pass; what is left over differs from pass to pass.

    Raises:
        DataError: not even one batch.
    """
    if source.count < batch_size:
        raise DataError(f"train.batch_size is {batch_size}, but split {source.role!r} has only {source.count} images")
    return source.count // batch_size


View = Callable[[Any, Any, Any], Any]
"""What a record holds, the epoch and the image's index -> what the network is given."""


def training_stream(
    source: Source,
    recipe: Recipe,
    batch_size: int,
    *,
    start_step: int = 0,
    end_epoch: int | None = None,
    view: View | None = None,
    part: Part = Part(),
) -> tf.data.Dataset:
    """All steps of a training, epoch after epoch: batches of (images uint8 (B, S, S, 3), labels int64 (B,)).

    Which images a batch has and how they are changed depends on the seed, the epoch and the step only.

    Args:
        source: the training split.
        recipe: for its preprocessing, its augment section, its seed and its number of epochs.
        batch_size: over all replicas and workers.
        start_step: batches to leave out, for a resume.
        end_epoch: how many epochs there are, those that are left out included; None is all of the recipe.
        view: what is given of each image; None is the image as the recipe's augment section changes it.
        part: which share of each batch is given; B is then ``batch_size / part.of``.

    Raises:
        DataError: there is not even one batch, or the workers cannot share one.
    """
    if batch_size % part.of:
        raise DataError(f"a batch of {batch_size} images cannot be shared by {part.of} workers")
    first = divmod(start_step, steps_per_epoch(source, batch_size))
    epochs = tf.data.Dataset.range(first[0], recipe.train.total_epochs if end_epoch is None else end_epoch)
    return _steps(source, recipe.train.seed, batch_size, epochs, view or image_view(recipe), first, part)


def training_passes(source: Source, recipe: Recipe, batch_size: int) -> tf.data.Dataset:
    """One epoch of a training, with a new order and new changes each time the dataset is iterated."""
    numbers = tf.data.Dataset.random(recipe.train.seed, rerandomize_each_iteration=True).take(1)
    batches = _steps(source, recipe.train.seed, batch_size, numbers.map(lambda n: n % 2**31), image_view(recipe))
    return batches.apply(tf.data.experimental.assert_cardinality(steps_per_epoch(source, batch_size)))


def image_view(recipe: Recipe) -> View:
    """An image as the recipe's augment section changes it."""
    preprocess, augment, seed = Preprocess.from_recipe(recipe.image), recipe.augment, recipe.train.seed
    return lambda contents, epoch, index: training_view(contents, preprocess, augment, seed, epoch, index)


def _steps(
    source: Source,
    seed: int,
    batch_size: int,
    epochs: tf.data.Dataset,
    view: View,
    first: tuple[int, int] = (0, 0),
    part: Part = Part(),
) -> tf.data.Dataset:
    """The batches of these epochs; of the one with the number ``first[0]``, from step ``first[1]`` on."""
    images = steps_per_epoch(source, batch_size) * batch_size

    def one_pass(epoch):
        start = tf.cast(tf.where(epoch == first[0], first[1] * batch_size, 0), tf.int64)
        tickets = source.tickets((seed, epoch), start).take(images - start)
        return part.share(tickets, batch_size).map(lambda *ticket: (epoch, ticket))

    def example(epoch, ticket):
        index, contents, label = source.record(*ticket)
        return view(contents, epoch, index), label

    return (
        epochs.flat_map(one_pass)
        .map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size // part.of, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def evaluation_stream(source: Source, view: Callable, batch_size: int, *, padded: bool = False) -> tf.data.Dataset:
    """All images once, in order: batches of (what ``view`` makes of each, labels int64 (B,)).

    Args:
        source: what to read.
        view: a function of what a record holds, such as ``Preprocess.view``.
        batch_size: over all replicas.
        padded: whether the last batch is filled up, so that it can be split over replicas; a third element, weights
            float32 (B,), is then 0 for what was filled in.
    """
    batches = examples(source, view).map(lambda index, image, label: (image, label)).batch(batch_size)
    if padded:
        batches = batches.map(lambda images, labels: _pad(images, labels, batch_size))
    return batches.prefetch(tf.data.AUTOTUNE)


def examples(source: Source, view: Callable, *, order: Order = None, every: int = 1) -> tf.data.Dataset:
    """Each image's index, int64, what ``view`` makes of it, and its label, int64.

    Args:
        source: what to read.
        view: a function of what a record holds, such as ``Preprocess.view``.
        order: see ``Source.tickets``.
        every: 2 gives every second image only, and decodes no other.
    """

    def example(*ticket):
        index, contents, label = source.record(*ticket)
        return index, view(contents), label

    return source.tickets(order).shard(every, 0).map(example, num_parallel_calls=tf.data.AUTOTUNE)


def _pad(values, labels, batch_size: int):
    count = tf.shape(labels)[0]
    values, labels = (_filled(tensor, batch_size) for tensor in (values, labels))
    return values, labels, tf.cast(tf.range(batch_size) < count, tf.float32)


def _filled(tensor, size: int):
    """A tensor (n, ...) with zeros behind it, so that its first dimension is ``size``."""
    missing = [[0, size - tf.shape(tensor)[0]], *[[0, 0]] * (tensor.shape.rank - 1)]
    return tf.ensure_shape(tf.pad(tensor, missing), (size, *tensor.shape[1:]))
