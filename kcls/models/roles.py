"""Roles of weights, told by whoever makes them: which are not decayed, which are the head's, how one fits another size.

A layer marks a weight with ``not_decayed`` where it makes it. A layer with tables that depend on the image's size has
a method ``fit_weight(name, value)``, which returns the value for its own size. The head is what stands behind
``to_head``, where ``create_model`` ends the features: a place in the graph, so that a saved model still tells it.
"""

import keras
import numpy as np

TO_HEAD = "to_head"  # name of the layer at the end of the features; those of auxiliary heads begin so


def not_decayed(variable):
    """Marks a weight that weight decay must leave alone, and returns it."""
    variable.decayed = False
    return variable


def is_decayed(variable) -> bool:
    """Whether weight decay applies to a weight: as it was marked; else to all but biases and one number a channel.

    One number a channel are the factors and offsets of norms, the slopes of PReLU, layer scales.
    """
    if hasattr(variable, "decayed"):
        return variable.decayed
    if variable.name in ("kernel", "bias"):  # a kernel may have one output, a bias two dimensions
        return variable.name == "kernel"
    return sum(size > 1 for size in variable.shape) > 1


def to_head(features, suffix: str = ""):
    """The features (B, C) as they are, in float32; what is made of them is the head, see ``head_layers``."""
    return keras.layers.Identity(dtype="float32", name=f"{TO_HEAD}{suffix}")(features)


def head_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model of ``create_model`` that stand behind its features, in their order; none without a head."""
    behind: set[int] = set()  # ids of tensors
    layers = []
    for operation in model.operations:  # each after those whose outputs it takes
        starts = operation.name.startswith(TO_HEAD)
        if starts or behind.intersection(map(id, keras.tree.flatten(operation.input))):
            behind.update(map(id, keras.tree.flatten(operation.output)))
            if isinstance(operation, keras.layers.Layer) and not starts:
                layers.append(operation)
    return layers


def fitted(layer: keras.layers.Layer, name: str, value: np.ndarray) -> np.ndarray:
    """A value for the layer's weight ``name``, in the layer's own size if the layer knows how; else as it is."""
    fit = getattr(layer, "fit_weight", None)
    return fit(name, value) if fit else value
