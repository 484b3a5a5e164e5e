"""Weights by name into a model: all of them, or an error that lists what does not fit."""

from collections.abc import Callable, Collection

import keras
import numpy as np

from kcls.errors import KclsError


def assign(
    model: keras.Model,
    names: Callable[[str], str],
    available: Collection[str],
    read: Callable[[str, keras.Variable, keras.layers.Layer], np.ndarray],
    source: str,
) -> bool:
    """Fills every weight of ``model`` from ``source``, or none.

    Args:
        model: a model of ``create_model``.
        names: our weight's path ``layer/variable`` -> its name in the source.
        available: names of everything in the source.
        read: name, our weight and its layer -> the value in our layout.
        source: for errors.

    Returns:
        Whether the head was filled, too; it is left as it is if the source has other classes.

    Raises:
        KclsError: a weight is missing, left over or of another shape, or is not finite; the model is unchanged.
    """
    problems, values, used, head_fits = [], [], set(), True
    for layer in model.layers:
        for weight in layer.weights:
            if weight.path.startswith("seed_generator") or "seed_generator" in weight.path:
                continue
            name = names(weight.path)
            used.add(name)
            if name not in available:
                problems.append(f"{name} (our {weight.path}) is missing")
                continue
            value = read(name, weight, layer)
            if value.shape != tuple(weight.shape):
                if _is_of_head(layer) and _differs_in_classes(value.shape, tuple(weight.shape)):
                    head_fits = False
                else:
                    problems.append(f"{name} is {value.shape}, our {weight.path} is {tuple(weight.shape)}")
                continue
            values.append((layer, weight, value))
    problems += [f"{name} is left over" for name in sorted(set(available) - used)]
    if problems:
        shown = "".join(f"\n  {p}" for p in problems[:20])
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise KclsError(f"{source} does not fit {model.name}: {len(problems)} weights differ{shown}{more}")
    for layer, weight, value in values:
        if head_fits or not _is_of_head(layer):
            weight.assign(value)
    return head_fits


def _is_of_head(layer: keras.layers.Layer) -> bool:
    return layer.name.startswith("head")


def _differs_in_classes(came: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether only the last dimension, that of the classes, differs."""
    return len(came) == len(wanted) and came[:-1] == wanted[:-1]
