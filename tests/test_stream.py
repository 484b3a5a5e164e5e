"""Batches: everything once, the same again for the same seed, and from any step on."""

import numpy as np
import pytest
import tensorflow as tf

import kcls
from kcls.data import sources
from kcls.data.sources import open_split
from kcls.data.stream import evaluation_stream, steps_per_epoch, training_epoch
from kcls.errors import DataError, RecipeError
from kcls.recipe import load_recipe


@pytest.fixture(params=["memory", "files"])
def split_and_recipe(request, folder_recipe, monkeypatch):
    """A training split of 60 images, kept in memory or read from its files in each pass."""
    recipe = load_recipe(folder_recipe)
    if request.param == "files":
        monkeypatch.setattr(sources, "MEMORY_LIMIT", 0)
    return open_split(recipe.data, "train"), recipe


def batches(dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    return [tuple(np.asarray(part) for part in batch) for batch in dataset]


def indices(split, order, start: int = 0) -> list[int]:
    return [int(i) for i, _, _ in split.examples(order, start)]


def test_an_order_has_every_image_once(split_and_recipe):
    split, _ = split_and_recipe
    assert sorted(indices(split, (0, 0))) == indices(split, None) == list(range(60))


def test_each_epoch_and_seed_has_its_own_order(split_and_recipe):
    split, _ = split_and_recipe
    assert indices(split, (0, 0)) == indices(split, (0, 0))
    assert len({tuple(indices(split, order)) for order in ((0, 0), (0, 1), (1, 0), (1, 1))}) == 4


def test_an_epoch_can_be_entered_at_any_step(split_and_recipe):
    split, recipe = split_and_recipe
    whole = batches(training_epoch(split, recipe, 20, epoch=3))
    rest = batches(training_epoch(split, recipe, 20, epoch=3, start_step=1))
    assert len(whole) == 3 and len(rest) == 2
    for (x, y), (same_x, same_y) in zip(whole[1:], rest, strict=True):
        assert (x == same_x).all() and (y == same_y).all()


def test_an_image_is_the_same_in_batches_of_another_size(split_and_recipe):
    split, recipe = split_and_recipe
    large, small = (batches(training_epoch(split, recipe, size, epoch=0)) for size in (20, 10))
    assert (np.concatenate([x for x, _ in large]) == np.concatenate([x for x, _ in small])).all()


def test_memory_and_files_give_the_same_stream(folder_recipe, monkeypatch):
    recipe = load_recipe(folder_recipe)
    memory = batches(training_epoch(open_split(recipe.data, "train"), recipe, 20, epoch=1))
    monkeypatch.setattr(sources, "MEMORY_LIMIT", 0)
    files = batches(training_epoch(open_split(recipe.data, "train"), recipe, 20, epoch=1))
    for (x, y), (same_x, same_y) in zip(memory, files, strict=True):
        assert (x == same_x).all() and (y == same_y).all()


def test_a_tensorflow_data_set_that_does_not_fit_in_memory_is_streamed(tiny_recipe, monkeypatch):
    recipe = load_recipe(tiny_recipe)
    kept = open_split(recipe.data, "val")
    monkeypatch.setattr(sources, "MEMORY_LIMIT", 0)
    streamed = open_split(recipe.data, "val")
    assert type(kept) is not type(streamed)
    assert sorted(indices(streamed, (0, 0))) == list(range(kept.count))
    assert indices(streamed, (0, 0)) != indices(streamed, (0, 1)) != list(range(kept.count))
    assert indices(streamed, (0, 1), 5) == indices(streamed, (0, 1))[5:]
    for (_, a, x), (_, b, y) in zip(kept.examples(), streamed.examples(), strict=True):
        assert (a.numpy() == b.numpy()).all() and x == y


def test_evaluation_sees_every_image_once_in_order(split_and_recipe):
    split, _ = split_and_recipe
    labels = np.concatenate([y for _, y in batches(evaluation_stream(split, 25))])
    assert labels.tolist() == sorted(labels.tolist()) and len(labels) == 60


def test_padding_has_weight_zero(split_and_recipe):
    split, _ = split_and_recipe
    padded = batches(evaluation_stream(split, 25, padded=True))
    assert [x.shape[0] for x, _, _ in padded] == [25, 25, 25]
    assert sum(w.sum() for _, _, w in padded) == 60
    assert padded[-1][2].tolist() == [1.0] * 10 + [0.0] * 15


def test_a_batch_larger_than_the_split_is_refused(split_and_recipe):
    split, _ = split_and_recipe
    with pytest.raises(DataError, match="batch_size is 61, but split 'train' has only 60 images"):
        steps_per_epoch(split, 61)


def test_load_data_gives_a_new_order_in_each_pass(folder_recipe):
    dataset, names = kcls.load_data(str(folder_recipe), "train")
    assert names == ("blue", "green", "red")
    first, second = batches(dataset), batches(dataset)
    assert len(first) == len(dataset) == 3
    assert first[0][0].dtype == np.uint8 and first[0][0].shape == (20, 12, 12, 3)
    assert (first[0][1] != second[0][1]).any()
    again, _ = kcls.load_data(str(folder_recipe), "train")
    assert (batches(again)[0][0] == first[0][0]).all()


def test_load_data_of_a_test_split_is_whole_and_in_order(folder_recipe):
    dataset, _ = kcls.load_data(str(folder_recipe), "test", batch_size=7)
    assert [len(y) for _, y in batches(dataset)] == [7, 7, 6]
    with pytest.raises(RecipeError, match="no split 'tset'"):
        kcls.load_data(str(folder_recipe), "tset")


def test_the_embedded_digits_are_all_there():
    import importlib

    import tensorflow_datasets as tfds

    importlib.import_module("kcls.data.builders.digits")
    builder = tfds.builder("digits")
    builder.download_and_prepare()
    counts = {name: info.num_examples for name, info in builder.info.splits.items()}
    assert counts == {"train": 1438, "test": 359}
    labels = [int(e["label"]) for s in counts for e in builder.as_dataset(split=s)]
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as published
    first = next(iter(builder.as_dataset(split="train")))["image"]
    assert first.shape == (8, 8, 1) and first.dtype == tf.uint8 and int(tf.reduce_max(first)) > 200
