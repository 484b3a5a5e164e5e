"""The stages of a training: what is frozen in each, and what trains the rest."""

import keras
import tensorflow as tf

from kcls.errors import RecipeError
from kcls.methods import Method, has_auxiliary_heads, make_method
from kcls.quantization import is_quantization_aware
from kcls.recipe import Recipe
from kcls.train_section import Frozen
from kcls.training.network import make_quantization_aware
from kcls.training.objective import CrossEntropy, make_metrics
from kcls.training.optimizer import make_optimizer, make_schedule
from kcls.training.state import RunningStage, Training


def begin_stage(training: Training, number: int) -> None:
    """Makes the recipe's stage of that number, from 0, the one that is trained: its method and a new optimizer.

    Raises:
        RecipeError: the method or the frozen backbone does not fit the network.
    """
    recipe, stages = training.recipe, training.recipe.train.all_stages
    options = stages[number]
    if options.quantize_aware and not is_quantization_aware(training.network):
        training.network = make_quantization_aware(training.network, recipe, training.strategy)
        training.best = None  # of a network that is not rounded
    with training.strategy.scope():
        freeze(training.network, options.freeze)
        method = _head(training) if options.freeze == "backbone" else _make_method(recipe, training.network)
        schedule = make_schedule(recipe.optimizer, steps_per_epoch=training.steps, epochs=options.epochs, lr=options.lr)
        scale_loss = recipe.train.precision == "mixed_float16"
        optimizer = make_optimizer(recipe.optimizer, schedule, method.trainable_variables, scale_loss=scale_loss)
        compile_method(method, optimizer, CrossEntropy(recipe.train.label_smoothing))
    first_epoch = sum(stage.epochs for stage in stages[:number])
    training.running = RunningStage(options, number, first_epoch, method, schedule)


def freeze(network: keras.Model, what: Frozen | None) -> None:
    """Lets all of a network be trained, or all but its batch norms, which are then in inference mode.

    A frozen backbone is no part of what is trained, so nothing is told to its layers.
    """
    for layer in network.layers:
        layer.trainable = not (what == "norms" and isinstance(layer, keras.layers.BatchNormalization))


def _head(training: Training) -> Method:
    """Plain training of the head on features."""
    if has_auxiliary_heads(training.network):
        raise RecipeError(f"{training.network.name} has auxiliary heads: a frozen backbone can have one head only")
    return Method(training.head)


def _make_method(recipe: Recipe, network: keras.Model) -> Method:
    """The recipe's method around the network."""
    if recipe.method is None:
        return make_method(network)
    try:
        return make_method(network, **recipe.method.resolved())
    except ValueError as error:
        raise RecipeError(f"method {recipe.method.name!r} does not fit the recipe: {error}") from error


def compile_method(method: Method, optimizer: keras.optimizers.Optimizer, loss: CrossEntropy) -> None:
    """Compiles a method and makes the variables of its metrics, which must exist before a checkpoint is read.

    XLA is used where stock Keras uses it: on one GPU, not on a CPU, where it is slower, and not under a strategy.
    """
    method.compile(optimizer, loss=loss, weighted_metrics=make_metrics(), jit_compile="auto")
    images, labels = tf.zeros((1, *method.network.input.shape[1:])), tf.zeros((1,), tf.int64)
    outputs = method(images, training=False)
    method.compute_loss(images, labels, outputs)
    method.compute_metrics(images, labels, outputs)
    method.reset_metrics()
