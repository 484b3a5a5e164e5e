"""First values of weights that several rooms of ``models`` share."""

from keras import initializers


def small_normal(stddev: float = 0.02) -> initializers.Initializer:
    """Normal, with the deviation .02 of the authors' code of ViT's successors and of ConvNeXt.

    There it is a normal cut at -2 and 2, which is a hundred deviations and cuts nothing. Keras's ``TruncatedNormal``
    cuts at two deviations, as BERT's did, and leaves a deviation of .0176.
    """
    return initializers.RandomNormal(stddev=stddev)
