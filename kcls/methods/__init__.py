"""Training methods: each is a ``keras.Model`` around a network, for ``kcls train`` and for one's own ``fit``."""

from typing import Any

import keras

from kcls.methods.auxiliary import AuxiliaryHeads, has_auxiliary_heads
from kcls.methods.masked_autoencoder import MaskedAutoencoder
from kcls.methods.method import Method, Watched

__all__ = [
    "METHODS",
    "AuxiliaryHeads",
    "MaskedAutoencoder",
    "Method",
    "Watched",
    "has_auxiliary_heads",
    "make_method",
]

# The names of a recipe's method section, whose other keys are the keyword arguments.
METHODS: dict[str, type[Method]] = {"auxiliary_heads": AuxiliaryHeads}


def make_method(network: keras.Model, name: str | None = None, **options: Any) -> Method:
    """The method of that name around a network; without a name plain training, that of auxiliary heads included.

    Raises:
        ValueError: the method cannot train this network.
    """
    if name is None and has_auxiliary_heads(network):
        name = "auxiliary_heads"
    return METHODS[name](network, **options) if name else Method(network)
