"""Every variant is as large as its authors' network, and the catalogue says so."""

import functools
import json
from math import prod
from pathlib import Path

import keras
import pytest

from kcls.catalogue import make_row, published, read_catalogue
from kcls.models import create_model
from kcls.models.count import gmacs, trainable_params

# Counted on other implementations (see counts_from in each row), never on kcls.
REFERENCE = json.loads(Path(__file__).with_name("reference.json").read_text(encoding="utf-8"))
ROWS = {(r["name"], r["image_size"], r["num_classes"], json.dumps(r["options"])): r for r in REFERENCE}

# Variants that reference.json does not know, with their source.
UNLISTED = {}

# They take 5 to 10 s each.
DEEP = {"resnet1001_preact", "resnet1202"}


def key(row):
    return row["name"], row["image_size"], row["num_classes"], json.dumps(row["options"])


CATALOGUE = {key(row): row for row in read_catalogue()}
IDS = {k: "-".join([k[0], str(k[1]), str(k[2]), *json.loads(k[3])]) for k in CATALOGUE}
heavy = pytest.mark.heavy
every_row = pytest.mark.parametrize(
    "row", [pytest.param(k, id=IDS[k], marks=heavy if k[0] in DEEP else ()) for k in CATALOGUE]
)


def expected(row):
    """trainable_params, moving_statistics and gmacs of the published network."""
    return ROWS[row] if row in ROWS else UNLISTED[row[0]]


@functools.cache
def counts(row):
    name, image_size, num_classes, options = row
    with keras.StatelessScope():  # nothing is allocated: some variants have a billion parameters
        model = create_model(name, image_size=image_size, num_classes=num_classes, **json.loads(options))
        moving = sum(prod(w.shape) for w in model.non_trainable_weights if w.path.split("/")[-1].startswith("moving"))
        return trainable_params(model), moving, gmacs(model)


@every_row
def test_trainable_parameters_are_exactly_the_published_ones(row):
    assert counts(row)[0] == expected(row)["trainable_params"]


@every_row
def test_moving_statistics_are_exactly_the_published_ones(row):
    assert counts(row)[1] == expected(row)["moving_statistics"]


@every_row
def test_multiply_adds_are_the_published_ones(row):
    # 1 %: authors differ in what they count (biases, norms). A stride in the wrong place moves it by 6 %.
    assert counts(row)[2] == pytest.approx(expected(row)["gmacs"], rel=0.01)


def test_the_catalogue_lists_every_published_configuration():
    rows = [(row["name"], row["image_size"], row["num_classes"], row["options"]) for row in read_catalogue()]
    assert len(rows) == len(CATALOGUE)  # no doubles
    assert [row[0] for row in rows] == [name for name, _ in published()]


@pytest.mark.parametrize("name", sorted({r["name"] for r in REFERENCE if r["trainable_params"]}))
def test_every_row_of_the_reference_is_in_the_catalogue(name):
    known = {k[0] for k in CATALOGUE}
    if name not in known:
        pytest.skip("not built yet")  # the transformers
    assert {k for k in ROWS if k[0] == name} == {k for k in CATALOGUE if k[0] == name}


@pytest.mark.parametrize("name, change", [pytest.param(*c, marks=heavy if c[0] in DEEP else ()) for c in published()])
def test_the_catalogue_is_true(name, change):
    row = make_row(name, change)
    assert row == CATALOGUE[key(row)], "write it anew: python -m kcls.catalogue"


@every_row
def test_the_catalogue_agrees_with_the_reference(row):
    assert CATALOGUE[row]["trainable_params"] == expected(row)["trainable_params"]
    assert CATALOGUE[row]["gmacs"] == pytest.approx(expected(row)["gmacs"], rel=0.01)  # as above
    if row in ROWS:
        assert (ROWS[row]["paper"]["arxiv"] or ROWS[row]["paper"]["title"]) in CATALOGUE[row]["paper"]
