"""What a stage is fed with: images, or features while the backbone is frozen.

Features are what the backbone, in inference mode, makes of an image. They are computed once for each view of an image,
and the epochs take the views in turn. The first view is the image as evaluation sees it, the others are changed at
random as the recipe's augment section says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import tensorflow as tf

from kcls.data.preprocess import Preprocess
from kcls.data.reading import reading
from kcls.data.source import InMemory, Source
from kcls.data.stream import evaluation_stream, examples, image_view, training_stream
from kcls.errors import RecipeError
from kcls.recipe import Recipe
from kcls.training.state import Training

MOST_FEATURES = 4 * 2**30  # bytes that the features of all views may take


@dataclass(frozen=True)
class Feed:
    """The batches of a stage.

    Attributes:
        training: from a step of the whole training on, to the end of the stage.
        validation: of one pass, the last batch filled up.
    """

    training: Callable[[int], tf.data.Dataset]
    validation: Callable[[], tf.data.Dataset]


def make_feed(training: Training, look: Callable[[], None]) -> Feed:
    """What the stage that was begun is fed with.

    Args:
        training: its network's weights are those that features are computed with.
        look: called after each batch of features; what it raises ends the work.

    Raises:
        RecipeError: the features take too much memory.
        DataError: an image cannot be decoded.
    """
    recipe, end = training.recipe, training.stage.end
    batch_size = recipe.train.batch_size
    if training.stage.options.freeze == "backbone":
        views = training.stage.options.views
        train, val = _features(training, views, look)
        return Feed(
            lambda step: training_stream(
                train, recipe, batch_size, start_step=step, end_epoch=end, view=lambda x, epoch, index: x[epoch % views]
            ),
            lambda: evaluation_stream(val, lambda x: x[0], batch_size, padded=True),
        )
    view = Preprocess.from_recipe(recipe.image).view
    return Feed(
        lambda step: training_stream(training.train, recipe, batch_size, start_step=step, end_epoch=end),
        lambda: evaluation_stream(training.val, view, batch_size, padded=True),
    )


def _features(training: Training, views: int, look: Callable[[], None]) -> tuple[Source, Source]:
    """The training and the validation split as features, float32 (V, C) of each image."""
    splits = {training.train: views, training.val: 1}
    channels = training.backbone.output.shape[-1]
    size = sum(split.count * count for split, count in splits.items()) * channels * 4
    if size > MOST_FEATURES:
        raise RecipeError(
            f"the features of {training.train.count:,} images in {views} views take {size / 2**30:.1f} GiB, "
            f"more than {MOST_FEATURES / 2**30:g}: take fewer train.views"
        )
    backbone = tf.function(lambda images: training.backbone(images, training=False), reduce_retracing=True)
    train, val = (_kept(split, count, training.recipe, backbone, look) for split, count in splits.items())
    return train, val


def _kept(source: Source, views: int, recipe: Recipe, backbone: Callable, look: Callable[[], None]) -> InMemory:
    """A split as features, float32 (V, C) of each image."""
    columns: list[np.ndarray] = []
    for number in range(views):
        stream, parts = iter(_view(source, number, recipe).batch(recipe.train.batch_size).prefetch(1)), []
        while (batch := reading(source, partial(next, stream, None))) is not None:
            parts.append((backbone(batch[0]).numpy(), batch[1].numpy()))
            look()
        features, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
        columns.append(features)
    with tf.device("CPU"):  # a GPU's memory is for the training
        return InMemory(source, tf.constant(np.stack(columns, 1)), tf.constant(labels))


def _view(source: Source, number: int, recipe: Recipe) -> tf.data.Dataset:
    """A view of each image, uint8 (S, S, 3), and its label."""
    square, changed = Preprocess.from_recipe(recipe.image).view, image_view(recipe)

    def view(index, contents, label):
        return changed(contents, number, index) if number else square(contents), label

    return examples(source, lambda contents: contents).map(view, num_parallel_calls=tf.data.AUTOTUNE)
