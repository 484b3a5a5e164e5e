"""The network of a training: built, filled, and made fast."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf

from kcls.errors import KclsError, RecipeError
from kcls.models import create_model
from kcls.pretrained import fill_pretrained
from kcls.quantization import quantize_aware
from kcls.recipe import Recipe
from kcls.training.distribution import synchronize_batch_norm
from kcls.training.fast_layers import speed_up
from kcls.weights.source import Pretrained


def build_network(recipe: Recipe, num_classes: int) -> keras.Model:
    """The recipe's network with random weights."""
    image = recipe.image
    return create_model(
        recipe.model.name,
        num_classes=num_classes,
        image_size=image.size,
        drop_rate=recipe.model.drop_rate,
        mean=image.mean,
        std=image.std,
        **recipe.model.options,
    )


def make_network(
    recipe: Recipe, strategy: tf.distribute.Strategy, num_classes: int, pretrained: Pretrained | None
) -> tuple[keras.Model, Pretrained | None]:
    """The network with all its variables, in the strategy's scope; and which weights it starts with."""
    keras.utils.set_random_seed(recipe.train.seed)
    with strategy.scope():
        with precision(recipe.train.precision):
            network = build_network(recipe, num_classes)
        if pretrained:
            pretrained = fill_pretrained(network, pretrained, normalization=False)  # the recipe has mean and std
        _prepare(network, recipe, strategy)
    return network, pretrained


def make_quantization_aware(network: keras.Model, recipe: Recipe, strategy: tf.distribute.Strategy) -> keras.Model:
    """The quantization-aware form of a network of ``make_network``, with its weights.

    Raises:
        RecipeError: the network has none.
    """
    keras.utils.set_random_seed(recipe.train.seed + 1)  # the same whatever was made before, for a resume
    with strategy.scope(), precision("float32"):
        try:
            aware = quantize_aware(
                build_network(recipe, network.output.shape[-1]), quantize=recipe.train.ends_as or "int8"
            )
        except KclsError as error:
            raise RecipeError(f"train.quantize_aware: {error}") from None
        copy_weights(network, aware)
        _prepare(aware, recipe, strategy)
    return aware


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Gives the weights of ``target`` the values of those of the same path in ``source``, as far as it has them."""
    values = {weight.path: weight for weight in source.weights}
    for weight in target.weights:
        if weight.path in values:
            weight.assign(values[weight.path].numpy())


def _prepare(network: keras.Model, recipe: Recipe, strategy: tf.distribute.Strategy) -> None:
    if strategy.num_replicas_in_sync > 1:
        synchronize_batch_norm(network)
    speed_up(network)
    _set_norm_momentum(network, recipe.train.norm_momentum)


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Layers that are made within the block have this policy, whatever the user's script has set."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _set_norm_momentum(network: keras.Model, momentum: float | None) -> None:
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if momentum is not None and not norms:
        raise RecipeError(f"train.norm_momentum has no effect: {network.name} has no batch norms")
    for norm in norms:
        norm.momentum = norm.momentum if momentum is None else momentum
