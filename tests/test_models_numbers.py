"""Epsilons and momenta, asserted by configuration: a wrong one hides under a tolerance of the logits."""

import keras
import pytest
from tiny import TINY, shared

from kcls.models.registry import get_variant

NORMS = (keras.layers.BatchNormalization, keras.layers.GroupNormalization, keras.layers.LayerNormalization)

# Module of the builder -> (kind of norm, epsilon, momentum) of all its norms; the others have the house numbers.
NUMBERS = {}
HOUSE = {("BatchNormalization", 1e-5, 0.9)}


@pytest.mark.parametrize("label", TINY)
def test_every_norm_has_the_numbers_of_its_family(label):
    module = get_variant(TINY[label]["name"]).builder.__module__.rpartition(".")[2]
    norms = [layer for layer in shared(label).layers if isinstance(layer, NORMS)]
    found = {(type(n).__name__, n.epsilon, getattr(n, "momentum", None)) for n in norms}
    assert found == NUMBERS.get(module, HOUSE)
