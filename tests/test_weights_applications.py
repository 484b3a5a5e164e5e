"""The weights of Keras Applications give the logits of Keras Applications, from the pixels on."""

import dataclasses
import hashlib
import socket

import h5py
import keras
import numpy as np
import pytest
from tiny import images, logits

from kcls.errors import KclsError
from kcls.models import create_model, list_models
from kcls.models.count import weightless
from kcls.models.registry import get_variant
from kcls.pretrained import find_pretrained, load_pretrained
from kcls.weights.applications import APPLICATIONS, _leaves, fill
from kcls.weights.name_map import IMAGENET_MEAN, IMAGENET_STD
from kcls.weights.source import Pretrained

# One architecture a kind, as small as it bears; the others have the same layers, only more of them; these by hand.
QUICK = {
    "resnet50_v1": 64,
    "vgg16": 32,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "mobilenet_v3_large": 64,
    "convnext_tiny": 64,
}
NAME = "mobilenet_v3_small"  # the smallest
MODULES = {
    "ResNet": "resnet",
    "VGG16": "vgg16",
    "VGG19": "vgg19",
    "DenseNet": "densenet",
    "MobileNetV2": "mobilenet_v2",
}


def theirs(name, size=64, classes=10, **options):
    """The Keras Applications model of a variant, with random weights."""
    build = getattr(keras.applications, APPLICATIONS[name].architecture)
    shape = (size, size, 3)
    return build(weights=None, input_shape=shape, classes=classes, classifier_activation=None, **options)


def ours(name, size=64, classes=10):
    """The model of ``create_model`` that takes its weights."""
    options = {"same_padding": True} if APPLICATIONS[name].same_padding else {}
    return create_model(name, num_classes=classes, image_size=size, **options)


def preprocess(name, x):
    """What Keras Applications does to raw pixels outside the model."""
    for kind, module in MODULES.items():
        if APPLICATIONS[name].architecture.startswith(kind):
            return getattr(keras.applications, module).preprocess_input(x.copy())
    return x  # its model does it


def normalize(layer, mean, variance):
    """Sets what a Normalization takes off and divides by."""
    layer.adapt_mean.assign(mean)
    layer.adapt_variance.assign(variance)
    layer.finalize_state()


def redraw(model, x, seed=0):
    """Random weights, and moving statistics near the true ones of ``x``, so that no part is idle."""
    rng = np.random.default_rng(seed)
    layers = list(_leaves(model))
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            normalize(layer, rng.uniform(0.3, 0.6, 3), rng.uniform(0.04, 0.3, 3))
        for weight in layer.weights:
            if weight.name == "kernel":
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                fan_in = np.prod(weight.shape[:2] if depthwise else weight.shape[:-1])
                weight.assign(rng.normal(0, np.sqrt(2 / fan_in), weight.shape))
            elif weight.name in ("bias", "beta"):
                weight.assign(rng.normal(0, 0.2, weight.shape))
            elif weight.name == "gamma" or weight.name.startswith("variable"):  # the latter of Keras's LayerScale
                # Residual branches smaller than their shortcut, as in trained networks: rounding does not grow.
                weight.assign(rng.uniform(0.1, 0.5, weight.shape))
    for norm in norms:
        norm.momentum = 0.0  # one training pass: the moving statistics become those of x
    model(x, training=True)
    for norm in norms:
        std = np.sqrt(norm.moving_variance.numpy())
        norm.moving_mean.assign_add(rng.normal(0, 0.1, std.shape) * std)
        norm.moving_variance.assign(norm.moving_variance.numpy() * rng.uniform(0.8, 1.25, std.shape))
    return model


def off(model, reference, name, x):
    """The largest difference of the logits on raw pixels, in deviations of the logits."""
    expected = logits(reference, preprocess(name, x))
    assert (expected[0] - expected[1]).std() > 1e-3 * expected.std(), "the logits do not depend on the image"
    return np.abs(logits(model, x) - expected).max() / expected.std()


# float32 rounding grows with depth, to 2.5e-4 in resnet152_v1; the mildest real mistakes (an epsilon of 1e-5 instead of
# 1e-3, the biases, the order of the channels) cost 1 or more.
TOLERANCE = 1e-3


def how_often(name):
    """When its numbers are compared: always, in CI, or by hand."""
    if name == NAME:
        return ()
    return pytest.mark.heavy if name in QUICK else pytest.mark.full


ROWS = [pytest.param(name, marks=how_often(name)) for name in APPLICATIONS]


@pytest.mark.parametrize("name", ROWS)
def test_logits_on_raw_pixels_are_those_of_keras_applications(name, tmp_path, capsys):
    size = QUICK.get(name, 64)
    model = ours(name, size)
    x = images(model, 4)
    reference = redraw(theirs(name, size), preprocess(name, x))
    file = tmp_path / "a.weights.h5"
    reference.save_weights(file)
    assert load_pretrained(model, f"keras:{file}").head == "loaded"
    file.unlink()  # pytest keeps its folders, and some files are large
    worst = off(model, reference, name, x)
    with capsys.disabled():
        print(f"\n{name} against keras.applications {keras.__version__}: off by {worst:.1e} deviations of the logits")
    assert worst < TOLERANCE


@pytest.mark.heavy
@pytest.mark.parametrize("name", [name for name in APPLICATIONS if name not in QUICK])
def test_every_weight_of_keras_applications_has_its_place_and_shape(name, monkeypatch):
    """Through the code that reads a user's file, but without any value on either side."""
    size = get_variant(name).image_size
    filled = []
    with weightless():
        reference, model = theirs(name, size), ours(name, size)
        monkeypatch.setattr("kcls.weights.applications._build", lambda *_: reference)
        monkeypatch.setattr(keras.ops, "convert_to_numpy", lambda w: np.broadcast_to(np.float32(1), w.shape))
        monkeypatch.setattr(type(model.weights[0]), "assign", lambda self, value: filled.append(self.path))
        assert fill(model, Pretrained(f"keras/{name}", None, None, None)).head == "loaded"
    assert filled == [w.path for w in model.weights if "seed_generator" not in w.path]


class Stopped(Exception):
    pass


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == NAME else pytest.mark.heavy) for n in APPLICATIONS])
def test_what_is_downloaded_is_what_keras_would_download(name, monkeypatch):
    asked = {}

    def get_file(fname, origin, cache_subdir, file_hash=None):
        asked.update(fname=fname, origin=origin, cache_subdir=cache_subdir, file_hash=file_hash)
        raise Stopped

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    application = APPLICATIONS[name]
    with weightless(), pytest.raises(Stopped):
        getattr(keras.applications, application.architecture)(weights="imagenet")
    file = application.url.rpartition("/")[2]
    assert asked == dict(fname=file, origin=application.url, cache_subdir="models", file_hash=application.digest)


def test_every_row_is_a_variant_and_an_application():
    assert set(APPLICATIONS) <= set(list_models())
    assert all(hasattr(keras.applications, application.architecture) for application in APPLICATIONS.values())


@pytest.fixture(scope="module")
def small():
    """A small Keras Applications model with random weights; do not change it."""
    model = theirs(NAME)
    return redraw(model, images(model, 4))


@pytest.fixture(scope="module")
def small_file(small, tmp_path_factory):
    """Its weights."""
    file = tmp_path_factory.mktemp("applications") / "small.weights.h5"
    small.save_weights(file)
    return file


@pytest.mark.heavy
def test_a_whole_model_in_the_old_format_and_its_weights_alone_can_be_read(small, tmp_path):
    whole, alone = tmp_path / "whole.h5", tmp_path / "alone.h5"
    small.save(whole)
    with h5py.File(whole) as source, h5py.File(alone, "w") as target:
        for name, group in source["model_weights"].items():
            source.copy(group, target, name)
        target.attrs.update(source["model_weights"].attrs)
    for file in (whole, alone):
        model = ours(NAME)
        load_pretrained(model, f"keras:{file}")
        assert off(model, small, NAME, images(model, 4)) < TOLERANCE


def test_another_number_of_classes_leaves_the_head_as_it_is(small_file, caplog):
    model, whole = ours(NAME, classes=3), ours(NAME)
    before = [w.numpy() for w in model.get_layer("head").weights]
    assert load_pretrained(model, f"keras:{small_file}").head == "replaced"
    assert "the head for 3 classes starts with random weights" in caplog.text
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_layer("head").weights, strict=True))
    load_pretrained(whole, f"keras:{small_file}")
    for layer in model.layers:
        if not layer.name.startswith("head"):
            for a, b in zip(layer.get_weights(), whole.get_layer(layer.name).get_weights(), strict=True):
                assert np.array_equal(a, b)


def test_a_model_without_head_takes_no_head(small_file):
    assert load_pretrained(ours(NAME, classes=0), f"keras:{small_file}").head == "loaded"


def test_a_local_file_states_neither_licence_nor_image_size(small_file):
    found = find_pretrained(NAME, f"keras:{small_file}")
    assert (found.architecture, found.licence, found.image_size) == (None, None, None)
    assert found.sha256 == hashlib.sha256(small_file.read_bytes()).hexdigest()
    assert found.mean == found.std == (0.5, 0.5, 0.5)


# What a user can get wrong.


def assert_unchanged(model, source, message):
    before = [w.numpy() for w in model.weights]
    with pytest.raises(KclsError, match=message):
        load_pretrained(model, source)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.weights, strict=True))


@pytest.mark.parametrize(
    "name, source, message",
    [
        ("resnet50", "keras/ResNet50", "no counterpart of resnet50; resnet50_v1 is the one of ResNet50"),
        (
            "vgg16",
            "keras/ResNet50",
            "vgg16 takes the weights of keras/VGG16, not of ResNet50; resnet50_v1 is the one of",
        ),
        ("resnet50_v1", "keras/ResNet50V2", "does not know keras/ResNet50V2; it knows ResNet50, "),
    ],
)
def test_another_architecture_is_refused_before_anything_is_downloaded(name, source, message):
    with pytest.raises(KclsError, match=message):
        find_pretrained(name, source)


def test_a_file_of_another_architecture_is_refused(small_file):
    message = "does not fit keras.applications.MobileNetV2 with 32 px images and 10 classes"
    assert_unchanged(ours("mobilenet_v2", 32), f"keras:{small_file}", message)


def test_the_other_padding_is_refused(small_file):
    message = "needs the model mobilenet_v3_small with same_padding=True"
    assert_unchanged(create_model(NAME, num_classes=10, image_size=32), f"keras:{small_file}", message)


def test_another_width_is_refused(small_file):
    model = create_model(NAME, num_classes=10, image_size=32, width=0.5, same_padding=True)
    assert_unchanged(model, f"keras:{small_file}", r"weights differ:\n  conv/kernel is .*, our stem_conv/kernel is ")


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_a_damaged_file_is_refused(damage, small_file, tmp_path):
    file = tmp_path / "damaged.weights.h5"
    file.write_bytes({"truncated": small_file.read_bytes()[:100_000], "text": b"not found", "empty": b""}[damage])
    assert_unchanged(ours(NAME), f"keras:{file}", "damaged.weights.h5 is damaged or not a weights file of Keras")


def test_a_file_with_less_in_it_is_refused(small_file, tmp_path):
    file = tmp_path / "less.weights.h5"
    file.write_bytes(small_file.read_bytes())
    with h5py.File(file, "a") as h5:
        del h5["layers/conv2d_7"]
    assert_unchanged(ours(NAME), f"keras:{file}", "does not fit keras.applications.MobileNetV3Small")


# Downloads: Keras's cache is a folder of the test, and its server another.


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Keras's cache: nothing is in it."""
    folder = tmp_path / "keras"
    folder.mkdir()
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(folder))  # as KERAS_HOME does at the start
    return folder


@pytest.fixture
def serve(monkeypatch):
    """Makes a local file the ImageNet weights of a variant."""

    def serve(name, file, digest=None):
        row = dataclasses.replace(APPLICATIONS[name], url=file.as_uri(), digest=digest)
        monkeypatch.setitem(APPLICATIONS, name, row)

    return serve


def test_without_network_the_error_says_what_could_not_be_reached(cache, monkeypatch):
    def unreachable(*arguments, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    message = "cannot get https://storage.googleapis.com/tensorflow/.*/mobilenet_v3/.*: .*Name or service not known"
    with pytest.raises(KclsError, match=message):
        find_pretrained(NAME, "keras/MobileNetV3Small")
    assert not list(cache.rglob("*.h5"))


def test_a_download_goes_into_the_cache_of_keras_and_says_what_it_is(cache, serve, small_file):
    digest = hashlib.sha256(small_file.read_bytes()).hexdigest()
    serve(NAME, small_file, digest)
    found = find_pretrained(NAME, "keras/MobileNetV3Small", sha256=digest)
    assert found.file == cache / "models" / small_file.name
    assert (found.sha256, found.architecture, found.image_size) == (digest, "MobileNetV3Small", 224)
    serve(NAME, cache / "gone" / small_file.name, digest)  # the cache is enough
    assert find_pretrained(NAME, "keras/MobileNetV3Small") == found


def test_a_damaged_download_is_refused(cache, serve, small_file):
    serve(NAME, small_file, "0" * 64)
    with pytest.raises(KclsError, match="cannot get file://.*small.weights.h5: Incomplete or corrupted file"):
        find_pretrained(NAME, "keras/MobileNetV3Small")


@pytest.mark.heavy
def test_the_imagenet_weights_of_efficientnet_are_normalized_twice(cache, serve, tmp_path, monkeypatch):
    """Keras builds another graph for these: a second Rescaling turns its square roots into standard deviations."""
    name, file, tuned = "efficientnet_b0", tmp_path / "b0.weights.h5", tmp_path / "tuned.weights.h5"
    model = ours(name, 224, classes=1000)
    x = images(model)
    drawn = redraw(theirs(name, 224, classes=1000), x)
    normalize(drawn.get_layer(index=2), IMAGENET_MEAN, IMAGENET_STD)  # this "variance" is in Keras's file
    drawn.save_weights(file)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *arguments, **options: str(file))
    reference = keras.applications.EfficientNetB0(weights="imagenet", classifier_activation=None)
    reference.save_weights(tuned)
    serve(name, file)
    for source in ("keras/EfficientNetB0", f"keras:{tuned}"):
        found = load_pretrained(model, source)
        assert (found.mean, found.std) == (IMAGENET_MEAN, IMAGENET_STD)
        assert off(model, reference, name, x) < TOLERANCE
