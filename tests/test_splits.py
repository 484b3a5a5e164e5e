"""Split expressions are read in one place, and splits that share images are found."""

import pytest

from kcls.data.opening import open_data
from kcls.errors import DataError
from kcls.recipe import load_recipe
from kcls.splits import Split, certainly_overlap, parse_split


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("train", Split("train", None, None, False)),
        ("train[:90%]", Split("train", None, 90, True)),
        ("my-set.v2 [ 10% : ]", Split("my-set.v2", 10, None, True)),
        ("train[5:1000]", Split("train", 5, 1000, False)),
        ("train[5:10%]", None),
        ("train[%:10%]", None),
        ("train[-20%:]", None),
        ("train+test", None),
        ("", None),
    ],
)
def test_an_expression_has_these_parts(expression, parts):
    assert parse_split(expression) == parts


@pytest.mark.parametrize(
    ("a", "b", "shared"),
    [
        ("train", "train", True),
        ("train", "test", False),
        ("train[:90%]", "train[90%:]", False),
        ("train[:90%]", "train[89%:]", True),
        ("train[:10]", "train[9:]", True),
        ("train[10:]", "train[20:]", True),
        ("train[:10%]", "train[:10]", False),  # cannot be told without the number of images
        ("all", "test[:10%]", True),
    ],
)
def test_what_certainly_overlaps(a, b, shared):
    assert certainly_overlap(a, b, union="all") == certainly_overlap(b, a, union="all") == shared


@pytest.mark.parametrize(
    ("train", "val", "where"),
    [
        ("train", "train+test", "train: 0 to 1438"),
        ("train[:90%]", "train[-20%:]", "train: 1150 to 1294"),
        ("train[:90%]", "train[1000:]", "train: 1000 to 1294"),
    ],
)
def test_splits_of_a_data_set_that_share_images_are_refused_whatever_their_form(tiny_recipe, train, val, where):
    recipe = load_recipe(tiny_recipe, [f"data.train={train}", f"data.val={val}", "data.test=null"])
    with pytest.raises(DataError, match=rf"train \(.*\) and val \(.*\) share images of digits's {where}$"):
        open_data(recipe.data)


def test_splits_of_a_data_set_that_share_none_are_opened(tiny_recipe):
    recipe = load_recipe(tiny_recipe, ["data.train=train[:-300]", "data.val=train[-300:]", "data.test=test"])
    data = open_data(recipe.data)
    assert [data.split(role).count for role in ("train", "val", "test")] == [1138, 300, 359]
