"""Training methods: each is a ``keras.Model`` around a network, for ``kcls train`` and for one's own ``fit``."""

from kcls.methods.auxiliary import AuxiliaryHeads, has_auxiliary_heads
from kcls.methods.masked_autoencoder import MaskedAutoencoder

__all__ = ["AuxiliaryHeads", "MaskedAutoencoder", "has_auxiliary_heads"]
