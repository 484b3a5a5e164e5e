"""Weights of Keras Applications, brought over exactly: biases, epsilons and channel order move into our weights."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py  # comes with Keras
import keras
import numpy as np

from kcls.errors import KclsError
from kcls.models.registry import get_variant
from kcls.weights.assign import assign, is_weight
from kcls.weights.keras_names import APPLICATIONS, Application
from kcls.weights.name_map import IMAGENET_STD
from kcls.weights.source import Pretrained, Source, sha256


def find(source: Source, name: str) -> Pretrained:
    """The weights file of a variant, downloaded into Keras's own cache (KERAS_HOME) if need be.

    Raises:
        KclsError: Keras Applications has no counterpart, or its weights cannot be had.
    """
    application = _counterpart(name, source.architecture)
    file = source.path or _download(application)
    mean, std = application.mean, application.std
    if application.architecture.startswith("EfficientNet"):
        mean, std = _normalization(file, trained_on_imagenet=source.path is None)
    return Pretrained(
        source.text,
        source.architecture,
        file,
        sha256(file),
        licence=None if source.path else application.licence,
        mean=mean,
        std=std,
        image_size=None if source.path else get_variant(name).image_size,
    )


def variant_of(architecture: str) -> str:
    """The variant that Keras Applications calls ``architecture``.

    Raises:
        KclsError: kcls has none.
    """
    takers = {application.architecture: variant for variant, application in APPLICATIONS.items()}
    if architecture not in takers:
        raise KclsError(f"kcls does not know keras/{architecture}; it knows {', '.join(takers)}")
    return takers[architecture]


def _counterpart(name: str, architecture: str | None = None) -> Application:
    """What Keras Applications calls a variant."""
    hint = f"; {variant_of(architecture)} is the one of {architecture}" if architecture else ""
    if name not in APPLICATIONS:
        raise KclsError(f"Keras Applications has no counterpart of {name}{hint}")
    application = APPLICATIONS[name]
    if architecture not in (None, application.architecture):
        raise KclsError(f"{name} takes the weights of keras/{application.architecture}, not of {architecture}{hint}")
    return application


def _download(application: Application) -> Path:
    try:
        return Path(keras.utils.get_file(origin=application.url, cache_subdir="models", file_hash=application.digest))
    except Exception as error:  # Keras raises plain Exceptions, which begin with the URL
        reason = str(error).rpartition(" -- ")[2]
        raise KclsError(f"cannot get {application.url}: {reason}") from None


def fill(model: keras.Model, found: Pretrained) -> Pretrained:
    """Fills ``model`` with the weights of the file; returns what was found, and whether the head was filled, too.

    Raises:
        KclsError: the file cannot be read or does not fit the model, which is unchanged then.
    """
    application = _counterpart(model.name)
    # "same" is what needs no padding of its own.
    if application.same_padding and any(isinstance(layer, keras.layers.ZeroPadding2D) for layer in model.layers):
        raise KclsError(f"{found.source} needs the model {model.name} with same_padding=True")
    theirs = _build(application, found.file, model.input.shape[1])
    layers = {layer.name: layer for layer in _leaves(theirs) if not isinstance(layer, keras.layers.Normalization)}
    weights = {
        # The only weight of Keras's LayerScale has no name.
        f"{layer.name}/{'gamma' if weight is getattr(layer, 'gamma', None) else weight.name}": weight
        for layer in layers.values()
        for weight in layer.weights
        if is_weight(weight)
    }
    first = next(f"{layer.name}/kernel" for layer in layers.values() if hasattr(layer, "kernel"))
    wanted = {application.name(w.path) for layer in model.layers for w in layer.weights if is_weight(w)}
    folded = _folded_biases(layers, wanted)

    def read(name, weight, layer):
        value = keras.ops.convert_to_numpy(weights[name])
        counterpart = layers[name.rpartition("/")[0]]
        if name == first and application.bgr:
            value = value[:, :, ::-1]
        if weight.name == "moving_mean" and name in folded:  # (x + bias) - mean is x - (mean - bias)
            value = value - keras.ops.convert_to_numpy(weights[folded[name]])
        if value.ndim == 4 and isinstance(layer, keras.layers.DepthwiseConv2D) and hasattr(counterpart, "groups"):
            value = value.swapaxes(2, 3)  # theirs is a Conv2D with as many groups as channels
        if value.shape[:2] == (1, 1) and len(weight.shape) == 2:  # a 1x1 convolution behind the pool
            value = value[0, 0]
        return value

    def epsilon(name):
        return layers[name.rpartition("/")[0]].epsilon

    whole = assign(model, application.name, weights.keys() - folded.values(), read, str(found.file), epsilon)
    return replace(found, head="loaded" if whole else "replaced")


def _folded_biases(layers: Mapping[str, keras.layers.Layer], wanted: set[str]) -> dict[str, str]:
    """Biases that ours lacks before a batch norm: name of the norm's moving mean -> name of the bias."""
    biased = {id(conv.output): conv for conv in layers.values() if getattr(conv, "use_bias", False)}
    norms = [norm for norm in layers.values() if isinstance(norm, keras.layers.BatchNormalization)]
    pairs = {f"{n.name}/moving_mean": f"{biased[id(n.input)].name}/bias" for n in norms if id(n.input) in biased}
    return {mean: bias for mean, bias in pairs.items() if bias not in wanted}


def _leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model and of the models in it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _build(application: Application, file: Path, image_size: int) -> keras.Model:
    """Their model with the weights of the file; images as large as ours, for the sake of VGG's first dense layer."""
    size = max(32, image_size)  # fewer pixels are refused, even where they would do
    classes = count_classes(file)
    build = getattr(keras.applications, application.architecture)
    model = build(weights=None, input_shape=(size, size, 3), classes=classes, classifier_activation=None)
    try:
        model.load_weights(file)
    except Exception as error:  # Keras raises many kinds for a file that does not fit
        what = f"keras.applications.{application.architecture} with {size} px images and {classes} classes"
        reason = re.split(r" Target variable|List of objects", str(error))[0]  # thousands of numbers follow
        raise KclsError(f"{file} does not fit {what}: {' '.join(reason.split())}") from None
    return model


@contextmanager
def _opened(file: Path) -> Iterator[dict[str, list[h5py.Dataset]]]:
    """Layer -> its weights in a file of Keras, the head last.

    Keras 3 calls the layers after their class, dense, dense_1 ...; before, they had their own names.
    """
    try:
        with h5py.File(file) as h5:
            if "layers" in h5:
                yield {name: list(h5["layers"][name]["vars"].values()) for name in sorted(h5["layers"], key=_order)}
            else:
                root = h5.get("model_weights", h5)  # of a whole model, or weights only
                names = root.attrs["layer_names"].astype(str)
                yield {n: [root[n][w] for w in root[n].attrs["weight_names"].astype(str)] for n in names}
    except (OSError, LookupError, RuntimeError) as error:
        raise KclsError(f"{file} is damaged or not a weights file of Keras: {error}") from None


def _order(name: str) -> tuple[bool, bool, int]:
    """Puts the last layer of the kinds that heads are of, dense or else conv2d, behind all others."""
    kind = name.rstrip("0123456789").rstrip("_")
    return kind == "dense", kind == "conv2d", int(name[len(kind) + 1 :] or 0)


def count_classes(file: Path) -> int:
    """The class count of a weights file: the length of the head's bias.

    Raises:
        KclsError: the file cannot be read.
    """
    with _opened(file) as layers:
        head = [weights for weights in layers.values() if weights][-1]
        return head[-1].shape[0]


def _normalization(file: Path, trained_on_imagenet: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and std of EfficientNet's first layers: its own Normalization, on the scale of 0..1.

    The variance of Keras's ImageNet weights is the standard deviation, so that its square root is divided by; a second
    Rescaling divides by that root once more. Files of weights that began as these have the second one, too.
    """
    with _opened(file) as layers:
        mean, variance = [weights for name, weights in layers.items() if name.startswith("normalization")][0][:2]
        std = np.sqrt(variance[()])
        if trained_on_imagenet or sum(name.startswith("rescaling") for name in layers) > 1:
            std = std * np.sqrt(IMAGENET_STD)
        # As short as float32 allows: 0.485, not 0.48500001430511475.
        return tuple(float(f"{m:.7g}") for m in mean[()]), tuple(float(f"{s:.7g}") for s in std)
