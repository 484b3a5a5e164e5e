"""Batches: everything once, the same again for the same seed, and from any step on."""

import numpy as np
import pytest
import tensorflow as tf

import kcls
from kcls.data import opening
from kcls.data.opening import kept, open_data
from kcls.data.preprocess import Preprocess
from kcls.data.stream import Part, evaluation_stream, examples, steps_per_epoch, training_stream
from kcls.errors import DataError, RecipeError
from kcls.recipe import load_recipe


@pytest.fixture(params=["memory", "files"])
def split_and_recipe(request, folder_recipe, monkeypatch):
    """A training split of 60 images, kept in memory or read from its files in each pass."""
    recipe = load_recipe(folder_recipe)
    if request.param == "files":
        monkeypatch.setattr(opening, "MEMORY_LIMIT", 0)
    return opened(recipe), recipe


def opened(recipe, role="train"):
    """A split as a training opens it."""
    return kept(open_data(recipe.data).split(role), Preprocess.from_recipe(recipe.image), recipe.augment)


def batches(dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    return [tuple(np.asarray(part) for part in batch) for batch in dataset]


def indices(split, order, start: int = 0) -> list[int]:
    return [int(split.record(*(t if isinstance(t, tuple) else (t,)))[0]) for t in split.tickets(order, start)]


def test_an_order_has_every_image_once(split_and_recipe):
    split, _ = split_and_recipe
    assert sorted(indices(split, (0, 0))) == indices(split, None) == list(range(60))


def test_each_epoch_and_seed_has_its_own_order(split_and_recipe):
    split, _ = split_and_recipe
    assert indices(split, (0, 0)) == indices(split, (0, 0))
    assert len({tuple(indices(split, order)) for order in ((0, 0), (0, 1), (1, 0), (1, 1))}) == 4


def assert_same(some, others):
    assert len(some) == len(others) > 0
    for (x, y), (same_x, same_y) in zip(some, others, strict=True):
        assert (x == same_x).all() and (y == same_y).all()


@pytest.mark.parametrize("step", [3, 5])
def test_a_training_can_be_entered_at_any_step(split_and_recipe, step):
    split, recipe = split_and_recipe
    whole = batches(training_stream(split, recipe, 20))
    assert len(whole) == 2 * 3  # epochs, steps
    assert_same(whole[step:], batches(training_stream(split, recipe, 20, start_step=step)))


def test_every_epoch_has_its_own_order_and_changes(split_and_recipe):
    split, recipe = split_and_recipe
    images = np.concatenate([x for x, _ in batches(training_stream(split, recipe, 20))])
    first, second = ({image.tobytes() for image in images[i : i + 60]} for i in (0, 60))
    assert len(first) == 60 and first != second  # mirrored anew
    assert not (images[:60] == images[60:]).all()


def test_an_image_is_the_same_in_batches_of_another_size(split_and_recipe):
    split, recipe = split_and_recipe
    large, small = (batches(training_stream(split, recipe, size)) for size in (20, 10))
    assert (np.concatenate([x for x, _ in large]) == np.concatenate([x for x, _ in small])).all()


def test_workers_share_every_batch(split_and_recipe):
    split, recipe = split_and_recipe
    whole = batches(training_stream(split, recipe, 20, start_step=2))
    parts = [batches(training_stream(split, recipe, 20, start_step=2, part=Part(rank, 2))) for rank in range(2)]
    joined = [tuple(np.concatenate(pair) for pair in zip(a, b, strict=True)) for a, b in zip(*parts, strict=True)]
    assert_same(whole, joined)


def test_a_batch_that_workers_cannot_share_is_refused(split_and_recipe):
    split, recipe = split_and_recipe
    with pytest.raises(DataError, match="a batch of 20 images cannot be shared by 3 workers"):
        training_stream(split, recipe, 20, part=Part(0, 3))


def test_memory_and_files_give_the_same_stream(folder_recipe, monkeypatch):
    recipe = load_recipe(folder_recipe)
    memory = batches(training_stream(opened(recipe), recipe, 20))
    monkeypatch.setattr(opening, "MEMORY_LIMIT", 0)
    assert_same(memory, batches(training_stream(opened(recipe), recipe, 20)))


def test_a_tensorflow_data_set_that_does_not_fit_in_memory_is_streamed(tiny_recipe, monkeypatch):
    recipe = load_recipe(tiny_recipe)
    small = opened(recipe, "val")
    monkeypatch.setattr(opening, "MEMORY_LIMIT", 0)
    streamed = opened(recipe, "val")
    assert type(small) is not type(streamed)
    assert sorted(indices(streamed, (0, 0))) == list(range(small.count))
    assert indices(streamed, (0, 0)) != indices(streamed, (0, 1)) != list(range(small.count))
    assert indices(streamed, (0, 1), 5) == indices(streamed, (0, 1))[5:]
    view = Preprocess.from_recipe(recipe.image).view
    for (_, a, x), (_, b, y) in zip(examples(small, view), examples(streamed, view), strict=True):
        assert (a.numpy() == b.numpy()).all() and x == y
    whole = batches(training_stream(streamed, recipe, 20))
    assert_same(whole[8:], batches(training_stream(streamed, recipe, 20, start_step=8)))


def test_encoded_images_are_kept_where_a_random_box_needs_them_and_the_records_have_an_order(tiny_recipe, monkeypatch):
    recipe = load_recipe(tiny_recipe, ["augment={flip: false, random_resized_crop: [0.5, 1]}"])
    small = opened(recipe, "val")
    assert small.record(0)[1].dtype == tf.string and indices(small, (0, 0)) != list(range(small.count))
    monkeypatch.setattr(opening, "MEMORY_LIMIT", 0)
    assert type(opened(recipe, "val")) is not type(small)
    images, labels = batches(training_stream(small, recipe, 20))[0]
    assert images.shape == (20, 8, 8, 3) and images.dtype == np.uint8 and labels.shape == (20,)


def test_evaluation_sees_every_image_once_in_order(split_and_recipe):
    split, _ = split_and_recipe
    labels = np.concatenate([y for _, y in batches(evaluation_stream(split, Preprocess(12).view, 25))])
    assert labels.tolist() == sorted(labels.tolist()) and len(labels) == 60


def test_padding_has_weight_zero(split_and_recipe):
    split, _ = split_and_recipe
    padded = batches(evaluation_stream(split, Preprocess(12).view, 25, padded=True))
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
