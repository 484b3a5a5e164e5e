"""Schedules, weight decay and the loss, against NumPy."""

import keras
import numpy as np
import pytest
from tiny import build

from kcls.sections import OptimizerSection
from kcls.training.objective import CrossEntropy
from kcls.training.optimizer import SGD, Schedule, make_optimizer, make_schedule


def rates(schedule: Schedule, steps) -> list[float]:
    return [float(schedule(step)) for step in steps]


def section(**fields) -> OptimizerSection:
    return OptimizerSection(**{"name": "sgd", "lr": 0.1, **fields})


def test_cosine_falls_from_lr_to_zero():
    schedule = make_schedule(section(), steps_per_epoch=10, epochs=10)
    assert rates(schedule, [0, 50, 100]) == pytest.approx([0.1, 0.05, 0], abs=1e-8)


def test_warm_up_rises_linearly_and_reaches_lr_with_its_last_step():
    schedule = make_schedule(section(schedule="constant", warmup_epochs=0.5), steps_per_epoch=10, epochs=2)
    assert rates(schedule, range(6)) == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])


def test_cosine_starts_after_the_warm_up():
    schedule = make_schedule(section(warmup_epochs=1), steps_per_epoch=10, epochs=11)
    assert rates(schedule, [9, 10, 60, 110]) == pytest.approx([0.1, 0.1, 0.05, 0], abs=1e-8)


def test_steps_multiply_at_their_milestones():
    options = section(schedule="step", milestones=(1.0, 3.0), decay=0.1)
    schedule = make_schedule(options, steps_per_epoch=10, epochs=5)
    assert rates(schedule, [9, 10, 29, 30]) == pytest.approx([0.1, 0.01, 0.01, 0.001])


def test_a_schedule_survives_its_config():
    schedule = Schedule(0.1, 100, warmup=5, kind="step", milestones=(30, 60), decay=0.2)
    assert rates(Schedule.from_config(schedule.get_config()), range(100)) == rates(schedule, range(100))


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_adds_weight_decay_to_the_gradient_before_the_momentum(nesterov):
    weights = np.array([[1.0, -2.0], [0.5, 3.0]])
    gradients = [np.array([[0.1, 0.2], [-0.3, 0.4]]), np.array([[0.5, -0.1], [0.2, 0.3]])]
    variable = keras.Variable(weights.astype("float32"), name="kernel")
    optimizer = SGD(0.1, momentum=0.9, nesterov=nesterov, l2=0.01)
    optimizer.build([variable])
    velocity = np.zeros_like(weights)
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [variable])
        total = gradient + 0.01 * weights
        velocity = 0.9 * velocity - 0.1 * total
        weights = weights + (0.9 * velocity - 0.1 * total if nesterov else velocity)
    np.testing.assert_allclose(variable.numpy(), weights, rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_biases_and_norms_are_not_decayed(name):
    kernel = keras.Variable(np.ones((2, 2), "float32"), name="kernel")
    gamma = keras.Variable(np.ones(2, "float32"), name="gamma")
    options = OptimizerSection(name=name, lr=0.1, weight_decay=0.5, schedule="constant")
    optimizer = make_optimizer(options, make_schedule(options, steps_per_epoch=1, epochs=9), [kernel, gamma])
    optimizer.apply([keras.ops.zeros((2, 2)), keras.ops.zeros(2)], [kernel, gamma])
    assert (kernel.numpy() < 1).all() and (gamma.numpy() == 1).all()


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_tokens_and_positions_are_not_decayed_and_frozen_layers_stay(name):
    keras.utils.set_random_seed(0)
    model = build("deit_distilled")
    model.get_layer("head").trainable = False
    options = OptimizerSection(name=name, lr=0.1, weight_decay=0.5, schedule="constant")
    variables = model.trainable_variables
    optimizer = make_optimizer(options, make_schedule(options, steps_per_epoch=1, epochs=9), variables)
    before = {w.path: w.numpy() for w in model.weights}
    optimizer.apply([keras.ops.zeros(v.shape) for v in variables], variables)
    decayed = {w.path for w in model.weights if not np.array_equal(w.numpy(), before[w.path])}
    assert decayed == {w.path for w in model.weights if w.name == "kernel"} - {"head/kernel"}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_with_label_smoothing_is_the_formula(smoothing):
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(6, 5)), random.integers(0, 5, 6)
    log_softmax = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    target = np.full((6, 5), smoothing / 5)
    target[np.arange(6), labels] += 1 - smoothing
    expected = -(target * log_softmax).sum(-1).mean()
    assert float(CrossEntropy(smoothing)(labels, logits.astype("float32"))) == pytest.approx(expected, rel=1e-6)
