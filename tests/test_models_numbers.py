"""Epsilons and momenta, asserted by configuration: a wrong one hides under a tolerance of the logits."""

import keras
from tiny import TINY, every_row, shared

from kcls.models.registry import get_variant

NORMS = (keras.layers.BatchNormalization, keras.layers.GroupNormalization, keras.layers.LayerNormalization)

# Module of the builder, or label -> (kind, epsilon, momentum) of all its norms; the others have the house numbers.
NUMBERS = {
    "alexnet": set(),
    "bit": {("GroupNormalization", 1e-5, None)},
    "cct": {("LayerNormalization", 1e-5, None)},
    "coatnet": {("BatchNormalization", 1e-5, 0.9), ("LayerNormalization", 1e-6, None)},
    "convnext": {("LayerNormalization", 1e-6, None)},
    "deit": {("LayerNormalization", 1e-6, None)},
    "efficientnet": {("BatchNormalization", 1e-3, 0.99)},
    "googlenet": set(),
    "inception_resnet": {("BatchNormalization", 1e-3, 0.9)},
    "mobilenet_v3": {("BatchNormalization", 1e-5, 0.99)},
    "prelunet": set(),
    "swin": {("LayerNormalization", 1e-5, None)},
    "vgg": set(),
    "vgg_bn": {("BatchNormalization", 1e-5, 0.9)},
    "vit": {("LayerNormalization", 1e-6, None)},
}
HOUSE = {("BatchNormalization", 1e-5, 0.9)}


@every_row
def test_every_norm_has_the_numbers_of_its_family(label):
    module = get_variant(TINY[label]["name"]).builder.__module__.rpartition(".")[2]
    norms = [layer for layer in shared(label).layers if isinstance(layer, NORMS)]
    found = {(type(n).__name__, n.epsilon, getattr(n, "momentum", None)) for n in norms}
    assert found == NUMBERS.get(label, NUMBERS.get(module, HOUSE))
