"""The table of variants: complete, without duplicates, and helpful about a wrong name."""

import pytest
from tiny import TINY, every_row, kind, shared

from kcls.errors import RecipeError
from kcls.models import create_model, list_models, registry, variants
from kcls.models.registry import get_variant


@pytest.fixture
def table(monkeypatch):
    """A copy of the table, so that a test may add to it."""
    rows = dict(registry._VARIANTS)
    monkeypatch.setattr(registry, "_VARIANTS", rows)
    return rows


def builder(x, *, depth, width: int = 4):
    return x


def test_every_kind_of_network_has_a_tiny_row():
    classifiers = [name for name in list_models() if not get_variant(name).finetuned_as]  # the others: test_mae.py
    missing = {kind(name) for name in classifiers} - {kind(row["name"]) for row in TINY.values()}
    assert not missing


@every_row
def test_a_tiny_row_is_small(label):
    # resnet50 at width 4 has 100 thousand; the simple CNNs have no option that shrinks them.
    assert shared(label).count_params() < (2_500_000 if label.startswith("simple") else 500_000)


def test_names_are_listed_in_alphabetical_order():
    assert list_models() == sorted(list_models())


def test_listing_can_be_narrowed():
    assert list_models("simple_") == ["simple_cnn_m3", "simple_cnn_m5", "simple_cnn_m7"]


def test_a_new_variant_is_listed_and_found(table):
    variants(image_size=8, num_classes=2, brand_new=dict(depth=1))(builder)
    assert "brand_new" in list_models()
    assert get_variant("brand_new").options == {"depth": 1}


def test_a_duplicate_name_is_refused(table):
    with pytest.raises(ValueError, match="^variant 'resnet20' is registered twice$"):
        variants(image_size=8, num_classes=2, resnet20=dict(depth=1))(builder)


@pytest.mark.parametrize(
    "row, reason",
    [
        (dict(), "missing a required argument: 'depth'"),
        (dict(depth=1, heads=2), "got an unexpected keyword argument 'heads'"),
    ],
)
def test_a_row_that_does_not_fit_the_builder_is_refused(table, row, reason):
    with pytest.raises(ValueError, match=f"^variant 'brand_new' does not fit builder: {reason}$"):
        variants(image_size=8, num_classes=2, brand_new=row)(builder)


def test_only_plain_numbers_are_free_options():
    assert get_variant("resnet50").free_options == {"width": "int", "drop_path_rate": "float", "zero_init": "bool"}


def test_an_unknown_model_gives_the_near_name():
    with pytest.raises(RecipeError, match="^unknown model 'resnet_20'; did you mean 'resnet20'\\?$"):
        create_model("resnet_20", num_classes=2)


def test_an_unknown_model_without_near_name_says_where_the_names_are():
    with pytest.raises(RecipeError, match="^unknown model 'zzz'; `kcls models` lists them$"):
        create_model("zzz", num_classes=2)


def test_an_unknown_option_gives_the_near_name_and_the_known_ones():
    expected = r"no option 'unit'; did you mean 'units'\? \(its options: units, width, drop_path_rate, zero_init\)$"
    with pytest.raises(RecipeError, match=expected):
        create_model("resnet20", num_classes=2, unit=3)


@pytest.mark.parametrize("option", ["residual", "shortcut", "depths"])
def test_an_option_that_makes_another_network_is_refused(option):
    with pytest.raises(RecipeError, match=f"model 'resnet50' has no option '{option}'"):
        create_model("resnet50", num_classes=2, **{option: 1})


def test_a_model_without_options_says_so():
    with pytest.raises(RecipeError, match=r"has no option 'width' \(its options: none\)$"):
        create_model("simple_cnn_m3", num_classes=2, width=3)
