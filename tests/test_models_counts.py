"""Every variant is as large as its authors' network, and the catalogue says so."""

import functools
import json
from math import prod
from pathlib import Path

import pytest

from kcls.catalogue import make_row, read_catalogue
from kcls.models import create_model, list_models
from kcls.models.count import gmacs, trainable_params
from kcls.models.registry import get_variant

# Counted on other implementations (see counts_from in each row), never on kcls.
REFERENCE = json.loads(Path(__file__).with_name("reference.json").read_text(encoding="utf-8"))

# About 1 s each; the others are heavy. Each kind of block and each shortcut is among these.
CHEAP = {"plain18", "resnet18", "resnet34_a", "resnet34_c", "resnet50", "resnet50_v1", "resnet20", "resnet56"}
CHEAP |= set(list_models("simple_cnn"))

every_variant = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in CHEAP else pytest.mark.heavy) for n in list_models()]
)


def reference(name):
    """The reference row at the size and class count that the variant was published with."""
    variant = get_variant(name)
    published = (name, variant.image_size, variant.num_classes, {})
    rows = [r for r in REFERENCE if (r["name"], r["image_size"], r["num_classes"], r["options"]) == published]
    assert len(rows) == 1, f"{name} has {len(rows)} rows in reference.json"
    return rows[0]


@functools.cache
def counts(name):
    model = create_model(name, num_classes=get_variant(name).num_classes)
    moving = sum(prod(w.shape) for w in model.non_trainable_weights)
    return trainable_params(model), moving, gmacs(model)


@pytest.mark.parametrize("name", list_models())
def test_a_variant_has_one_reference_row(name):
    assert reference(name)["trainable_params"] > 0


@every_variant
def test_trainable_parameters_are_exactly_the_published_ones(name):
    assert counts(name)[0] == reference(name)["trainable_params"]


@every_variant
def test_moving_statistics_are_exactly_the_published_ones(name):
    assert counts(name)[1] == reference(name)["moving_statistics"]


@every_variant
def test_multiply_adds_are_the_published_ones(name):
    # 1 %: authors differ in what they count (biases, norms). A stride in the wrong place moves it by 6 %.
    assert counts(name)[2] == pytest.approx(reference(name)["gmacs"], rel=0.01)


@pytest.mark.parametrize("name", sorted(CHEAP))
def test_multiply_adds_of_plain_convolutions_agree_to_four_decimals(name):
    assert round(counts(name)[2], 4) == reference(name)["gmacs"]  # both are whole numbers, rounded alike


def test_the_catalogue_lists_every_variant():
    assert [row["name"] for row in read_catalogue()] == list_models()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n in ("resnet20", "resnet18", "simple_cnn_m5") else pytest.mark.heavy)
        for n in list_models()
    ],
)
def test_the_catalogue_is_true(name):
    row = next(row for row in read_catalogue() if row["name"] == name)
    assert row == make_row(name), "write it anew: python -m kcls.catalogue"


@pytest.mark.parametrize("name", list_models())
def test_the_catalogue_agrees_with_the_reference(name):
    row = next(row for row in read_catalogue() if row["name"] == name)
    assert row["trainable_params"] == reference(name)["trainable_params"]
    assert row["gmacs"] == pytest.approx(reference(name)["gmacs"], rel=0.01)  # as above
    assert reference(name)["paper"]["arxiv"] in row["paper"]
