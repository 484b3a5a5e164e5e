"""Weights of kcls itself: the ``.keras`` file of a model of ``create_model``, such as that of a run."""

from dataclasses import replace
from pathlib import Path

import keras

from kcls.errors import KclsError
from kcls.models.registry import mean_and_std
from kcls.weights.assign import assign, is_weight
from kcls.weights.source import Pretrained, sha256


def find(source: str, file: Path, name: str) -> Pretrained:
    """The model file of the variant ``name`` that a source means.

    Raises:
        KclsError: it is no such file, or of another architecture.
    """
    if file.suffix != ".keras":
        raise KclsError(f"{file} is neither a run nor a .keras file")
    model = _open_plain(file)
    if "normalize" not in [layer.name for layer in model.layers]:
        raise KclsError(f"{file} is not of a model of create_model: it has no normalisation inside")
    if model.name != name:
        raise KclsError(f"{file} is a {model.name}, not a {name}")
    mean, std = mean_and_std(model)
    size = model.input.shape[1]
    return Pretrained(source, name, file, sha256(file), mean=mean, std=std, image_size=size)


def fill(model: keras.Model, found: Pretrained) -> Pretrained:
    """Fills ``model`` with the weights of the same names; returns what was found, and whether the head was, too.

    Raises:
        KclsError: they do not fit; the model is unchanged then.
    """
    theirs = {weight.path: weight for weight in _open_plain(found.file).weights if is_weight(weight)}

    def read(name, weight, layer):
        return keras.ops.convert_to_numpy(theirs[name])

    whole = assign(model, lambda path: path, theirs, read, str(found.file))
    return replace(found, head="loaded" if whole else "replaced")


def _open_plain(file: Path) -> keras.Model:
    """The model in a ``.keras`` file; of a quantization-aware one, the ordinary network with its weights."""
    model = open_model(file)
    if keras.backend.backend() == "tensorflow":
        from kcls.quantization import is_quantization_aware, plain

        return plain(model) if is_quantization_aware(model) else model
    return model


def open_model(file: Path) -> keras.Model:
    """The model in a ``.keras`` file.

    Raises:
        KclsError: it is damaged.
    """
    if keras.backend.backend() == "tensorflow":
        import kcls.quantization  # noqa: F401  its layers are then known to Keras

    try:
        return keras.models.load_model(file, compile=False)
    except Exception as error:  # Keras raises many kinds for a damaged file
        raise KclsError(f"cannot read the model {file}: {error}") from None
