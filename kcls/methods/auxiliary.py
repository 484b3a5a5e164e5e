"""Auxiliary heads: classifiers in the middle of a network that help it to train and are then of no use.

Szegedy et al. 2015, arXiv:1409.4842, section 5: their losses are added to the network's with a weight of 0.3.
"""

import keras

from kcls.methods.method import Method
from kcls.models.layers import FirstOf


def has_auxiliary_heads(network: keras.Model) -> bool:
    """Whether a network of ``create_model`` has auxiliary heads."""
    return any(isinstance(layer, FirstOf) for layer in network.layers)


class AuxiliaryHeads(Method):
    """Trains a network together with its auxiliary heads: ``AuxiliaryHeads(network)``, then ``compile`` and ``fit``.

    It shares the network's layers, so the network is what is saved and used afterwards. Metrics and evaluation see
    the network's own logits; ``predict`` gives those of all heads, the network's first.

    Args:
        network: a model of ``create_model`` with auxiliary heads, such as googlenet.
        weight: of each auxiliary loss.

    Raises:
        ValueError: the network has no auxiliary heads.
    """

    def __init__(self, network: keras.Model, weight: float = 0.3):
        if not has_auxiliary_heads(network):
            raise ValueError(f"{network.name} has no auxiliary heads")
        super().__init__(network)
        heads = next(layer for layer in network.layers if isinstance(layer, FirstOf)).input
        self.heads = keras.Model(network.input, heads)
        self.weight = weight

    def call(self, x, training=None):
        """Returns the logits of all heads."""
        return self.heads(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss of the network's logits, in training plus those of the auxiliary heads."""
        loss = super().compute_loss(x, y, y_pred[0], sample_weight, training)
        if training:
            function = keras.losses.get(self.loss)
            loss += self.weight * sum(function(y, logits, sample_weight=sample_weight) for logits in y_pred[1:])
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The metrics of the network's logits."""
        return super().compute_metrics(x, y, y_pred[0], sample_weight)
