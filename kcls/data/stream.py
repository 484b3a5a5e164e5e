"""Batches for training and evaluation, on one device or to be split over replicas."""

import tensorflow as tf

from kcls.data.augment import augment
from kcls.data.sources import Split
from kcls.errors import DataError
from kcls.recipe import Recipe


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Full batches in one pass; what is left over differs from pass to pass.

    Raises:
        DataError: not even one batch.
    """
    if split.count < batch_size:
        raise DataError(f"train.batch_size is {batch_size}, but split {split.name!r} has only {split.count} images")
    return split.count // batch_size


def training_epoch(split: Split, recipe: Recipe, batch_size: int, epoch, start_step: int = 0) -> tf.data.Dataset:
    """One pass: batches of (images uint8 (B, S, S, 3), labels int64 (B,)), shuffled and augmented.

    Which images a batch has and how they are changed depends on the seed, the epoch and the step only.

    Args:
        split: the training split.
        recipe: for its augment section and its seed.
        batch_size: over all replicas.
        epoch: the pass, from 0; an integer or a scalar tensor.
        start_step: batches to leave out, for a resume in the middle of a pass.
    """
    seed = recipe.train.seed
    steps = steps_per_epoch(split, batch_size)

    def change(index, image, label):
        return augment(image, recipe.augment, seed, epoch, index), label

    return (
        split.examples((seed, epoch), start_step * batch_size)
        .map(change, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size, drop_remainder=True)
        .take(steps - start_step)
        .prefetch(tf.data.AUTOTUNE)
    )


def training_passes(split: Split, recipe: Recipe, batch_size: int) -> tf.data.Dataset:
    """``training_epoch`` as one dataset that gives a new order and new changes each time it is iterated."""
    passes = tf.data.Dataset.random(recipe.train.seed, rerandomize_each_iteration=True).take(1)
    batches = passes.flat_map(lambda n: training_epoch(split, recipe, batch_size, tf.cast(n % 2**31, tf.int32)))
    return batches.apply(tf.data.experimental.assert_cardinality(steps_per_epoch(split, batch_size)))


def evaluation_stream(split: Split, batch_size: int, *, padded: bool = False) -> tf.data.Dataset:
    """All images once, in order: batches of (images uint8 (B, S, S, 3), labels int64 (B,)).

    Args:
        split: what to read.
        batch_size: over all replicas.
        padded: whether the last batch is filled up, so that it can be split over replicas; a third element, weights
            float32 (B,), is then 0 for what was filled in.
    """
    batches = split.examples().map(lambda index, image, label: (image, label)).batch(batch_size)
    if padded:
        batches = batches.map(lambda images, labels: _pad(images, labels, batch_size))
    return batches.prefetch(tf.data.AUTOTUNE)


def _pad(images, labels, batch_size: int):
    count = tf.shape(labels)[0]
    missing = batch_size - count
    images = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
    labels = tf.pad(labels, [[0, missing]])
    weights = tf.cast(tf.range(batch_size) < count, tf.float32)
    shape = images.shape[1:]
    return tf.ensure_shape(images, (batch_size, *shape)), tf.ensure_shape(labels, (batch_size,)), weights
