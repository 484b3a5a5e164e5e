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
    model = open_model(file)
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
    theirs = {weight.path: weight for weight in open_model(found.file).weights if is_weight(weight)}

    def read(name, weight, layer):
        return keras.ops.convert_to_numpy(theirs[name])

    whole = assign(model, lambda path: path, theirs, read, str(found.file))
    return replace(found, head="loaded" if whole else "replaced")


def open_model(file: Path) -> keras.Model:
    """The model in a ``.keras`` file.

    Raises:
        KclsError: it is damaged.
    """
    import kcls.quantization  # noqa: F401  Keras finds its layers in a file by their names

    try:
        return keras.models.load_model(file, compile=False)
    except Exception as error:  # Keras raises many kinds for a damaged file
        raise KclsError(f"cannot read the model {file}: {error}") from None
