"""Images with their classes, from any source, as one kind of stream; and the resize that every part uses.

Importing this room needs no TensorFlow.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import tensorflow as tf

    from kcls.recipe import Recipe


def load_data(
    recipe: "Recipe | str | Path", split: str = "train", *, batch_size: int | None = None, download: bool = False
) -> "tuple[tf.data.Dataset, tuple[str, ...]]":
    """Reads one split of a recipe's data for your own ``model.fit``.

    Args:
        recipe: a recipe, or the path of one.
        split: ``train`` (shuffled anew and augmented in each pass), ``val`` or ``test`` (in order, as they are).
        batch_size: images in a batch; None is the recipe's ``train.batch_size``.
        download: whether a TensorFlow data set that is not on this machine may be downloaded.

    Returns:
        A ``tf.data.Dataset`` of (images uint8 (B, S, S, 3), labels int64 (B,)), and the class names. The last
        batch of ``train`` is dropped if it is not full.

    Raises:
        RecipeError: no such split in the recipe.
        DataError: the data cannot be found or used.
    """
    from kcls.backend import require_tensorflow
    from kcls.errors import RecipeError
    from kcls.recipe import Recipe, load_recipe

    require_tensorflow()
    from kcls.data.opening import kept, open_data
    from kcls.data.preprocess import Preprocess
    from kcls.data.stream import evaluation_stream, training_passes

    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    batch_size = recipe.train.batch_size if batch_size is None else batch_size
    if batch_size < 1:
        raise RecipeError(f"batch_size must be 1 or more, not {batch_size}")
    source, preprocess = open_data(recipe.data, download=download).split(split), Preprocess.from_recipe(recipe.image)
    if split == "train":
        stream = training_passes(kept(source, preprocess, recipe.augment), recipe, batch_size)
    else:
        stream = evaluation_stream(kept(source, preprocess), preprocess.view, batch_size)
    return stream, source.class_names
