"""Weights by name into a model: all of them, or an error that lists what does not fit."""

from collections.abc import Callable, Collection

import keras
import numpy as np

from kcls.errors import KclsError
from kcls.models.registry import create_model
from kcls.models.roles import fitted, head_layers

SHOWN = 20  # how many differences an error lists


def assign(
    model: keras.Model,
    names: Callable[[str], str],
    available: Collection[str],
    read: Callable[[str, keras.Variable, keras.layers.Layer], np.ndarray],
    source: str,
    epsilon: Callable[[str], float | None] = lambda name: None,
) -> bool:
    """Fills every weight of ``model`` from ``source``, or none.

    Args:
        model: a model of ``create_model``; one without head takes no head.
        names: our weight's path ``layer/variable`` -> its name in the source.
        available: names of everything in the source.
        read: name, our weight and its layer -> the value in our layout.
        source: for errors.
        epsilon: name of a moving variance -> the epsilon of its batch norm in the source, None if it is ours. The
            difference moves into the variance.

    Returns:
        Whether the head was filled, too; it is left as it is if the source has another number of classes.

    Raises:
        KclsError: a weight is missing, left over, of another shape, not finite, or a negative variance; the model
            is unchanged then.
    """
    problems, values, used, head_fits = [], [], set(), True
    head = head_layers(model)
    for layer in model.layers:
        for weight in layer.weights:
            if not is_weight(weight):
                continue
            name = names(weight.path)
            used.add(name)
            if name not in available:
                problems.append(f"{name} is missing (our {weight.path})")
                continue
            value = fitted(layer, weight.name, read(name, weight, layer))
            if value.shape == tuple(weight.shape):
                problems += _faults(name, weight, value)
                if weight.name == "moving_variance" and (theirs := epsilon(name)) is not None:
                    value = value + np.float32(theirs - layer.epsilon)
                values.append((layer, weight, value))
            elif layer in head and value.shape[:-1] == tuple(weight.shape)[:-1]:  # the last dimension: classes
                head_fits = False
            else:
                problems.append(f"{name} is {value.shape}, our {weight.path} is {tuple(weight.shape)}")
    if not head:
        used |= {names(weight.path) for weight in _head_weights(model)}
    problems += [f"{name} is left over" for name in sorted(set(available) - used)]
    if problems:
        raise KclsError(f"{source} does not fit {model.name}, {len(problems)} weights differ:{_shown(problems)}")
    for layer, weight, value in values:
        if head_fits or layer not in head:
            weight.assign(value)
    return head_fits


def _faults(name: str, weight: keras.Variable, value: np.ndarray) -> list[str]:
    """Why no network can have learnt or measured this value."""
    faults = [] if np.isfinite(value).all() else [f"{name} is not finite"]
    if weight.name == "moving_variance" and (value < 0).any():
        faults.append(f"{name} is negative")
    return faults


def _shown(problems: list[str]) -> str:
    shown = "".join(f"\n  {problem}" for problem in problems[:SHOWN])
    return shown + (f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else "")


def is_weight(variable) -> bool:
    """Whether it is learnt or measured; the states of random generators are not."""
    return "seed_generator" not in variable.path


def _head_weights(model: keras.Model) -> list:
    """The weights that the head of a model without head would have."""
    whole = create_model(model.name, num_classes=1)  # of the published size, which always fits
    return [weight for layer in head_layers(whole) for weight in layer.weights if is_weight(weight)]
