"""Every variant is as large as its authors' network, and the catalogue says so."""

import json
from math import prod
from pathlib import Path

import pytest

from kcls.catalogue import read_catalogue
from kcls.models import create_model
from kcls.write_catalogue import make_row, published

# Counted on other implementations (see counts_from in each row), never on kcls.
REFERENCE = json.loads(Path(__file__).with_name("reference.json").read_text(encoding="utf-8"))
ROWS = {(r["name"], r["image_size"], r["num_classes"], json.dumps(r["options"])): r for r in REFERENCE}

# Variants that reference.json does not know, with their source.
UNLISTED = {
    # timm 1.0.31 on the meta device, multiply-adds of its convolutions and linear layers by forward hooks, at 224 px.
    "convnext_tiny": dict(trainable_params=28589128, moving_statistics=0, gmacs=4.4555),
    "convnext_small": dict(trainable_params=50223688, moving_statistics=0, gmacs=8.6837),
    "convnext_base": dict(trainable_params=88591464, moving_statistics=0, gmacs=15.3547),
    "convnext_large": dict(trainable_params=197767336, moving_statistics=0, gmacs=34.3614),
    # timm 1.0.31's mobilenetv2_100, _050, _140 and mobilenetv3_large_100, _small_100 on the meta device, at 224 px;
    # multiply-adds by torch.utils.flop_counter.
    "mobilenet_v2": dict(trainable_params=3504872, moving_statistics=34112, gmacs=0.3008),
    "mobilenet_v2_050": dict(trainable_params=1968680, moving_statistics=18544, gmacs=0.0971),
    "mobilenet_v2_140": dict(trainable_params=6108776, moving_statistics=47936, gmacs=0.5822),
    "mobilenet_v3_large": dict(trainable_params=5483032, moving_statistics=24400, gmacs=0.2166),
    "mobilenet_v3_small": dict(trainable_params=2542856, moving_statistics=12112, gmacs=0.0565),
}

# Some families, in about a second each; the others are heavy.
QUICK = {
    *("alexnet", "resnet18", "resnet50_v1", "resnet20", "densenet_40_12", "seresnet50", "regnety_4g"),
    *("efficientnet_b0", "mobilenet_v3_small", "simple_cnn_m5", "vit_tiny_16", "swin_tiny", "cct_7_3x1"),
}


def key(row):
    return row["name"], row["image_size"], row["num_classes"], json.dumps(row["options"])


CATALOGUE = {key(row): row for row in read_catalogue()}
IDS = {k: "-".join([k[0], str(k[1]), str(k[2]), *json.loads(k[3])]) for k in CATALOGUE}


def expected(row):
    """trainable_params, moving_statistics and gmacs of the published network."""
    return ROWS[row] if row in ROWS else UNLISTED[row[0]]


def moving_statistics(model):
    """Number of measured values; their shapes are enough."""
    return sum(prod(w.shape) for w in model.non_trainable_weights if w.path.split("/")[-1].startswith("moving"))


@pytest.mark.parametrize(
    "name, change",
    [
        pytest.param(
            name,
            change,
            id="-".join([name, *(f"{k}={v}" for k, v in change.items())]),
            marks=() if name in QUICK else pytest.mark.heavy,
        )
        for name, change in published()
    ],
)
def test_a_variant_is_exactly_as_large_as_published_and_as_the_catalogue_says(name, change, monkeypatch):
    built = []

    def build_once(*arguments, **options):
        built.append(create_model(*arguments, **options))
        return built[-1]

    monkeypatch.setattr("kcls.write_catalogue.create_model", build_once)
    row = make_row(name, change)
    reference = expected(key(row))
    assert row["trainable_params"] == reference["trainable_params"]
    assert moving_statistics(*built) == reference["moving_statistics"]
    # 1 %: authors differ in what they count (biases, norms). A stride in the wrong place moves it by 6 %.
    assert row["gmacs"] == pytest.approx(reference["gmacs"], rel=0.01)
    # That the counts are true is said above; this says that the file is what is written now, and so not stale.
    assert row == CATALOGUE.get(key(row)), "write it anew: python -m kcls.write_catalogue"


def test_the_catalogue_lists_every_published_configuration():
    rows = [(row["name"], row["image_size"], row["num_classes"], row["options"]) for row in read_catalogue()]
    assert len(rows) == len(CATALOGUE)  # no doubles
    assert [row[0] for row in rows] == [name for name, _ in published()]


@pytest.mark.parametrize("name", sorted({r["name"] for r in REFERENCE if r["trainable_params"]}))
def test_every_row_of_the_reference_is_in_the_catalogue(name):
    assert {k for k in ROWS if k[0] == name} == {k for k in CATALOGUE if k[0] == name}


def test_every_variant_has_been_compared_with_another_implementation():
    assert not [row["name"] for row in CATALOGUE.values() if not row["parity"]]


@pytest.mark.parametrize("row", CATALOGUE, ids=IDS.values())
def test_the_catalogue_agrees_with_the_reference(row):
    assert CATALOGUE[row]["trainable_params"] == expected(row)["trainable_params"]
    assert CATALOGUE[row]["gmacs"] == pytest.approx(expected(row)["gmacs"], rel=0.01)  # as above
    if row in ROWS:
        assert (ROWS[row]["paper"]["arxiv"] or ROWS[row]["paper"]["title"]) in CATALOGUE[row]["paper"]
