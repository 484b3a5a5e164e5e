"""Weights that would load in silence as something else, or fail half-way: each is said or refused."""

import json
import logging

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny import images, jitter, logits

import kcls
from kcls.errors import KclsError
from kcls.models import create_model
from kcls.models.registry import mean_and_std
from kcls.pretrained import find_pretrained
from kcls.weights.timm import NAME_MAPS


def tiny(name="resnet18", **options):
    width = 4 if name == "resnet18" else 0.1
    return create_model(name, num_classes=5, image_size=32, width=width, **options)


def write(model, folder, config=None, prefix=""):
    """The model's weights under timm's names and in PyTorch's layout."""
    tensors = {}
    for layer in model.layers:
        for weight in layer.weights:
            value = np.asarray(weight)
            if weight.name == "kernel":
                depthwise = "depthwise" in layer.name
                value = value.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)) if value.ndim == 4 else value.T
            tensors[prefix + NAME_MAPS[model.name][0].tensor_name(weight.path)] = np.ascontiguousarray(value)
    save_file(tensors, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return f"timm:{folder / 'model.safetensors'}"


MAY_BE_TWO = {  # variant -> the option, what is taken without and with it
    "efficientnet_b0": ({"same_padding": False}, "tf_efficientnet_b0", "efficientnet_b0"),
    "mobilenet_v3_small": ({"same_padding": True}, "mobilenetv3_small_100", "tf_mobilenetv3_small_100"),
}

each_that_may_be_two = pytest.mark.parametrize(
    "name", ["efficientnet_b0", pytest.param("mobilenet_v3_small", marks=pytest.mark.heavy)]
)


@each_that_may_be_two
@pytest.mark.parametrize("with_option", [False, True])
def test_a_file_that_fits_two_counterparts_is_said_with_what_decides(name, with_option, tmp_path, caplog):
    option, *architectures = MAY_BE_TWO[name]
    model = tiny(name, **(option if with_option else {}))
    found = kcls.load_pretrained(model, write(model, tmp_path))
    taken, other = architectures[::-1] if with_option else architectures
    assert found.architecture == taken
    assert f"taken for timm's {taken}, which the file does not say" in str(found)
    assert f"may be timm's {taken} or {other}: their tensors are alike" in caplog.text
    needed = "its options as published" if with_option else f"same_padding={option['same_padding']}"
    assert f"timm's config.json beside the file decides, or a model with {needed} ({other})" in caplog.text
    names = {names.architecture: names for names in NAME_MAPS[name]}[taken]
    assert mean_and_std(model) == (names.mean, names.std)  # the guess goes for the normalisation, too


@each_that_may_be_two
def test_a_config_beside_the_file_decides(name, tmp_path, caplog):
    option, taken, other = MAY_BE_TWO[name]
    source = write(tiny(name), tmp_path, {"architecture": other})
    with pytest.raises(KclsError, match=f"needs the model {name} with same_padding={option['same_padding']}$"):
        kcls.load_pretrained(tiny(name), source)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": taken}))
    found = kcls.load_pretrained(tiny(name), source)
    assert (found.architecture, found.notes) == (taken, ())
    assert "may be" not in caplog.text


def test_the_options_of_a_recipe_decide_the_normalisation_of_a_file_that_does_not_say_it(tmp_path):
    source = write(tiny("mobilenet_v3_small"), tmp_path)
    assert find_pretrained("mobilenet_v3_small", source).mean == (0.485, 0.456, 0.406)
    assert find_pretrained("mobilenet_v3_small", source, options={"same_padding": True}).mean == (0.5, 0.5, 0.5)
    assert find_pretrained("mobilenet_v3_small", source, options={"width": 0.1}).mean == (0.485, 0.456, 0.406)


def test_a_file_that_fits_one_counterpart_is_taken_for_it_without_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        found = kcls.load_pretrained(tiny(), write(tiny(), tmp_path))
    assert found.notes == ("taken for timm's resnet18, which the file does not say",)
    assert not caplog.text


def test_counterparts_of_other_image_sizes_compute_alike_and_are_not_warned_of(tmp_path, caplog):
    model = create_model("vit_base_16", num_classes=5, image_size=32, width=8, depth=1, num_heads=2)
    assert len(NAME_MAPS["vit_base_16"]) == 2
    kcls.load_pretrained(model, write(model, tmp_path))
    assert not caplog.text


def test_a_prefix_of_all_names_is_looked_through_and_said(tmp_path):
    original, model = jitter(tiny()), tiny()
    found = kcls.load_pretrained(model, write(original, tmp_path, prefix="module.model."), normalization=False)
    np.testing.assert_array_equal(logits(model, images(model)), logits(original, images(model)))
    assert "without the prefix 'module.model.'" in str(found)


def changed(source, name, value):
    path = source.removeprefix("timm:")
    tensors = load_file(path)
    tensors[name][...] = value
    save_file(tensors, path)
    return source


def unchanged(model, source, match):
    before, normalization = model.get_weights(), mean_and_std(model)
    with pytest.raises(KclsError, match=match):
        kcls.load_pretrained(model, source)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert mean_and_std(model) == normalization


def test_a_negative_variance_is_refused(tmp_path):
    source = changed(write(tiny(), tmp_path), "bn1.running_var", -1e-7)
    unchanged(tiny(), source, "1 weights differ:\n  bn1.running_var is negative$")


def test_a_variance_below_the_difference_of_the_epsilons_is_none_of_it(tmp_path):
    model = tiny("efficientnet_b0", same_padding=False)  # 1e-5 where ours is 1e-3
    kcls.load_pretrained(model, changed(write(model, tmp_path), "bn1.running_var", 1e-4))
    np.testing.assert_allclose(model.get_layer("stem_norm").moving_variance, 1e-4 + 1e-5 - 1e-3, rtol=1e-4)


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("mean", [0.5], "three numbers"),
        ("mean", 0.5, "three numbers"),
        ("mean", ["a", "b", "c"], "three numbers"),
        ("mean", [0.5, 0.5, float("nan")], "three numbers"),
        ("std", [0.5], "three numbers above 0"),
        ("std", [0.5, 0.5, 0], "three numbers above 0"),
        ("std", [0.5, 0.5, float("inf")], "three numbers above 0"),
        ("input_size", 224, "channels, height and width"),
        ("input_size", [3, 224.5, 224.5], "channels, height and width"),
        ("crop_pct", 0, "a fraction above 0, at most 1"),
        ("crop_pct", True, "a fraction above 0, at most 1"),
        ("crop_mode", ["center"], "one of center, squash, border"),
        ("interpolation", 3, "a name"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused_before_anything_is_assigned(key, value, expected, tmp_path):
    source = write(tiny(), tmp_path, {"architecture": "resnet18", "pretrained_cfg": {key: value}})
    unchanged(tiny(), source, rf"config.json: {key} is .*, expected {expected}$")


@pytest.mark.parametrize("config", [[], {"pretrained_cfg": [1]}, {"architecture": 18}])
def test_a_config_of_another_shape_is_refused(config, tmp_path):
    unchanged(tiny(), write(tiny(), tmp_path, config), "config.json(: architecture is 18| is not a config of timm)")


def test_an_architecture_with_a_tag_is_understood(tmp_path):
    source = write(tiny(), tmp_path, {"architecture": "resnet18.a1_in1k"})
    assert find_pretrained("resnet18", source).architecture == "resnet18"
    source = write(tiny(), tmp_path, {"architecture": "resnet34.a1_in1k"})
    unchanged(tiny(), source, "the weights are of 'resnet34'")
