"""Training methods: each is a ``keras.Model`` around a network, for ``kcls train`` and for one's own ``fit``."""

from kcls.methods.auxiliary import AuxiliaryHeads, has_auxiliary_heads

__all__ = ["AuxiliaryHeads", "has_auxiliary_heads"]
