"""Pretrained weights from files: all of them come over, or an error names what does not fit."""

import json
import logging

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny import images, jitter, logits

import kcls
from kcls.errors import KclsError, RecipeError
from kcls.models import create_model
from kcls.pretrained import find_pretrained
from kcls.weights.source import parse_source
from kcls.weights.timm import NAME_MAPS

WIDTH, SIZE = 4, 32


def tiny(name="resnet18", num_classes=7, **options):
    return create_model(name, num_classes=num_classes, image_size=SIZE, **{"width": WIDTH, **options})


def write_checkpoint(model, folder, config=None):
    """The model's weights under timm's names and in PyTorch's layout."""
    names = NAME_MAPS[model.name][0]
    tensors = {"bn1.num_batches_tracked": np.array(1)}
    for weight in model.weights:
        value = keras.ops.convert_to_numpy(weight)
        if weight.name == "kernel":
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        tensors[names.tensor_name(weight.path)] = np.ascontiguousarray(value)
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder / "model.safetensors"


@pytest.fixture
def original():
    return jitter(tiny())


@pytest.fixture
def checkpoint(original, tmp_path):
    return write_checkpoint(original, tmp_path / "timm")


CONFIG = {
    "architecture": "resnet18",
    "pretrained_cfg": {
        "input_size": [3, 48, 48],
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "crop_mode": "center",
        "license": "cc-by-4.0",
    },
}


def weights_of(model):
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights]


def test_every_weight_of_a_checkpoint_comes_over(original, checkpoint):
    model = tiny()
    found = kcls.load_pretrained(model, f"timm:{checkpoint}")
    assert all(np.array_equal(a, b) for a, b in zip(weights_of(model), weights_of(original), strict=True))
    assert found.head == "loaded"
    assert len(found.sha256) == 64


@pytest.mark.heavy
def test_the_model_takes_over_the_normalisation_of_the_weights(original, tmp_path):
    model = tiny()
    x = images(model)
    before = model.predict(x, verbose=0)  # compiles it with the old normalisation
    kcls.load_pretrained(model, f"timm:{write_checkpoint(original, tmp_path / 'timm', CONFIG)}")
    wanted = tiny(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    wanted.set_weights(original.get_weights())
    assert np.array_equal(model.predict(x, verbose=0), wanted.predict(x, verbose=0))
    assert not np.array_equal(model.predict(x, verbose=0), before)
    path = tmp_path / "model.keras"
    model.save(path)
    assert np.array_equal(logits(keras.models.load_model(path), x), logits(wanted, x))


def test_the_model_may_keep_its_normalisation(original, checkpoint):
    model = tiny()
    kcls.load_pretrained(model, f"timm:{checkpoint}", normalization=False)
    assert np.array_equal(logits(model, images(model)), logits(original, images(model)))


def test_a_checkpoint_says_how_it_wants_its_images(original, tmp_path):
    file = write_checkpoint(original, tmp_path / "timm", CONFIG)
    found = find_pretrained("resnet18", f"timm:{file}")
    assert found.licence == "cc-by-4.0"
    assert found.image_defaults() == {
        "size": 48,
        "mean": (0.1, 0.2, 0.3),
        "std": (0.4, 0.5, 0.6),
        "fit": "crop",
        "crop_fraction": 0.875,
        "interpolation": "bicubic",
    }


def test_without_a_config_the_normalisation_is_that_of_the_family(checkpoint):
    found = find_pretrained("resnet18", f"timm:{checkpoint}")
    assert found.image_defaults() == {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    assert found.licence is None


def test_a_head_of_other_classes_is_replaced_and_said(original, checkpoint, caplog):
    model = tiny(num_classes=3)
    head = [w.copy() for w in model.get_layer("head").get_weights()]
    with caplog.at_level(logging.WARNING):
        found = kcls.load_pretrained(model, f"timm:{checkpoint}")
    assert found.head == "replaced"
    assert "the head for 3 classes starts with random weights" in caplog.text
    assert all(np.array_equal(a, b) for a, b in zip(head, model.get_layer("head").get_weights(), strict=True))
    body = [w for w in model.weights if not w.path.startswith("head")]
    assert all(np.array_equal(w, original.get_layer(w.path.split("/")[0]).get_weights()[0]) for w in body[:1])


def test_a_model_of_features_takes_no_head(original, checkpoint):
    model = tiny(num_classes=0)
    assert kcls.load_pretrained(model, f"timm:{checkpoint}").head == "loaded"
    assert np.array_equal(weights_of(model)[0], weights_of(original)[0])


def misfit(model, source, match):
    """Loading fails with that message and leaves the model as it was."""
    before = weights_of(model)
    with pytest.raises(KclsError, match=match):
        kcls.load_pretrained(model, source)
    assert all(np.array_equal(a, b) for a, b in zip(before, weights_of(model), strict=True))


def test_another_depth_lists_what_is_missing(checkpoint):
    match = r"(?s)does not fit resnet34, \d+ weights differ:\n  layer1\.2\.conv1\.weight is missing .*and \d+ more"
    misfit(tiny("resnet34"), f"timm:{checkpoint}", match)


def test_another_width_lists_the_shapes(checkpoint):
    match = r"conv1\.weight is \(7, 7, 3, 4\), our stem_conv/kernel is \(7, 7, 3, 8\)"
    misfit(tiny(width=8), f"timm:{checkpoint}", match)


def test_what_is_left_over_is_listed(checkpoint):
    tensors = load_file(checkpoint)
    tensors["extra.weight"] = np.zeros(3, "float32")
    save_file(tensors, checkpoint)
    misfit(tiny(), f"timm:{checkpoint}", "1 weights? differ.*\n  extra.weight is left over$")


def test_weights_that_are_not_finite_are_refused(checkpoint):
    tensors = load_file(checkpoint)
    tensors["bn1.bias"][0] = np.nan
    save_file(tensors, checkpoint)
    misfit(tiny(), f"timm:{checkpoint}", "bn1.bias is not finite")


def test_half_precision_is_read(original, checkpoint):
    save_file({k: v.astype("float16") for k, v in load_file(checkpoint).items()}, checkpoint)
    model = tiny()
    kcls.load_pretrained(model, f"timm:{checkpoint}")
    assert np.array_equal(weights_of(model)[0], weights_of(original)[0].astype("float16"))


@pytest.mark.parametrize("keep", [0, 100, -1000])
def test_a_truncated_checkpoint_is_refused(checkpoint, keep):
    checkpoint.write_bytes(checkpoint.read_bytes()[:keep])
    misfit(tiny(), f"timm:{checkpoint}", "model.safetensors is damaged or not a safetensors file")


def test_a_checkpoint_of_another_architecture_is_refused_by_its_name(original, tmp_path):
    file = write_checkpoint(original, tmp_path / "timm", {**CONFIG, "architecture": "resnet26"})
    misfit(tiny(), f"timm:{file}", "the weights are of 'resnet26'; resnet18 takes those of timm's resnet18$")


def test_a_name_of_another_architecture_is_refused_before_any_download(monkeypatch):
    monkeypatch.setattr("kcls.weights.checkpoint.download", None)
    misfit(tiny(), "timm/resnet50.a1_in1k", "the weights are of 'resnet50'; resnet18 takes those of timm's resnet18$")


def test_a_variant_that_timm_lacks_says_so():
    misfit(create_model("resnet20", num_classes=2), "timm/resnet20.x", "timm has no counterpart of resnet20$")


def test_a_broken_config_is_named(original, tmp_path):
    file = write_checkpoint(original, tmp_path / "timm")
    file.with_name("config.json").write_text("{")
    misfit(tiny(), f"timm:{file}", "cannot read .*config.json")


@pytest.mark.parametrize(
    "source, match",
    [
        ("torchvision:resnet18.pth", "unknown kind of pretrained weights .*; there are timm.NAME"),
        ("timm:weights.npz", "timm: takes a .safetensors or .pth or .pt or .bin file"),
        ("keras:weights.bin", "keras: takes a .h5 file"),
        ("timm:nowhere.safetensors", "there is no nowhere.safetensors"),
        ("imagenet", "there is no imagenet .kinds of sources: timm/NAME.TAG"),
    ],
)
def test_a_source_that_names_nothing_is_refused(source, match):
    with pytest.raises(RecipeError, match=match):
        parse_source(source)


def test_a_hub_source_may_name_a_revision():
    source = parse_source("timm/resnet50.a1_in1k@0123abc")
    assert (source.repository, source.revision, source.architecture) == ("timm/resnet50.a1_in1k", "0123abc", "resnet50")


def test_another_sha256_is_refused(checkpoint):
    right = find_pretrained("resnet18", f"timm:{checkpoint}").sha256
    assert find_pretrained("resnet18", f"timm:{checkpoint}", right.upper()).sha256 == right
    with pytest.raises(KclsError, match=f"has the SHA-256 {right}, not {'0' * 64} as the recipe says"):
        find_pretrained("resnet18", f"timm:{checkpoint}", "0" * 64)


def test_a_keras_file_of_kcls_comes_over_with_its_normalisation(tmp_path):
    saved = jitter(tiny(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)))
    saved.save(tmp_path / "model.keras")
    model = tiny()
    found = kcls.load_pretrained(model, str(tmp_path / "model.keras"))
    assert np.array_equal(logits(model, images(model)), logits(saved, images(model)))
    assert found.image_defaults() == {"size": SIZE, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}


def test_a_run_comes_over_with_its_preprocessing(trained):
    model = create_model("resnet20", num_classes=4, image_size=8, units=1, width=4)
    found = kcls.load_pretrained(model, str(trained.path))
    theirs = keras.models.load_model(trained.model_file)
    assert found.head == "replaced"  # the digits are ten
    assert np.array_equal(weights_of(model)[0], weights_of(theirs)[0])
    assert found.image_defaults()["fit"] == "crop"


def test_a_keras_file_of_another_model_is_refused(tmp_path):
    tiny("resnet34").save(tmp_path / "model.keras")
    misfit(tiny(), str(tmp_path / "model.keras"), "model.keras is a resnet34, not a resnet18")


def test_a_keras_file_from_elsewhere_is_refused(tmp_path):
    image = keras.Input((8, 8, 3))
    keras.Model(image, keras.layers.Flatten()(image), name="resnet18").save(tmp_path / "model.keras")
    misfit(tiny(), str(tmp_path / "model.keras"), "is not of a model of create_model")


def test_a_model_from_elsewhere_is_refused(checkpoint):
    image = keras.Input((8, 8, 3))
    with pytest.raises(RecipeError, match="'mine' is not a model of create_model"):
        kcls.load_pretrained(keras.Model(image, image, name="mine"), f"timm:{checkpoint}")


RECIPE = """\
model:   {{name: resnet18, options: {{width: 4}}, pretrained: "timm:timm/model.safetensors"}}
data:    {{source: digits, train: "train[:5%]", val: "train[95%:]"}}
image:   {{{image}}}
augment: {{flip: false}}
optimizer: {{name: sgd, lr: 1.0e-9, momentum: 0.0}}
train:   {{epochs: 1, batch_size: 32}}
"""


@pytest.fixture
def recipe(original, tmp_path):
    """A recipe beside the weights that it starts from; its learning rate is next to nothing."""
    write_checkpoint(original, tmp_path / "timm", CONFIG)

    def write(image=""):
        (tmp_path / "recipe.yaml").write_text(RECIPE.format(image=image))
        return tmp_path / "recipe.yaml"

    return write


def test_a_recipe_starts_from_the_weights_and_takes_over_how_they_want_their_images(recipe, original, tmp_path):
    run = kcls.train(recipe(), out=tmp_path / "run")
    image = run.recipe.image
    assert (image.size, image.crop_fraction, image.interpolation) == (48, 0.875, "bicubic")
    assert (image.mean, image.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    record = json.loads((run.path / "pretrained.json").read_text())
    assert record["sha256"] == find_pretrained("resnet18", f"timm:{tmp_path / 'timm' / 'model.safetensors'}").sha256
    assert (record["licence"], record["head"]) == ("cc-by-4.0", "replaced")
    model = keras.models.load_model(run.model_file)
    kernel = [w for w in original.weights if w.path == "stem_conv/kernel"][0]
    assert np.allclose(model.get_layer("stem_conv").kernel, kernel, atol=1e-6)  # two steps of 1e-9
    assert model.get_layer("normalize").get_config()["scale"] == pytest.approx([1 / (255 * s) for s in image.std])


def test_what_a_recipe_states_wins_over_the_weights(recipe, tmp_path):
    found = find_pretrained("resnet18", f"timm:{tmp_path / 'timm' / 'model.safetensors'}")
    stated = kcls.load_recipe(recipe("size: 32, mean: [0.5, 0.5, 0.5], fit: pad"))
    image = stated.with_image(found.image_defaults()).image
    assert (image.size, image.mean, image.std) == (32, (0.5, 0.5, 0.5), (0.4, 0.5, 0.6))
    assert (image.fit, image.interpolation) == ("pad", "bicubic")


@pytest.mark.heavy
def test_a_resumed_run_needs_the_weights_no_more(recipe, tmp_path):
    stated = kcls.load_recipe(recipe())
    run = kcls.train(stated, out=tmp_path / "run")
    run.model_file.unlink()  # as if it had been stopped at its end
    (tmp_path / "timm" / "model.safetensors").unlink()
    assert kcls.train(stated, out=tmp_path / "run", resume=True).finished


def test_without_weights_a_recipe_needs_an_image_size(tmp_path):
    text = RECIPE.format(image="").replace(', pretrained: "timm:timm/model.safetensors"', "")
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(RecipeError, match="image.size is missing"):
        kcls.load_recipe(tmp_path / "recipe.yaml")


def test_a_sha256_without_weights_is_refused(tmp_path):
    text = RECIPE.format(image="size: 8").replace(
        'pretrained: "timm:timm/model.safetensors"', f"pretrained_sha256: {'a' * 64}"
    )
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(RecipeError, match="pretrained_sha256 has no effect without pretrained"):
        kcls.load_recipe(tmp_path / "recipe.yaml")


def test_the_command_line_tells_a_wrong_source_before_it_starts_tensorflow(recipe, cli):
    outcome = cli("train", recipe(), "--set", "model.pretrained=torch:hub")
    assert outcome.code == 2
    assert "unknown kind of pretrained weights" in outcome.err
