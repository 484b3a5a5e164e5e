"""Which weights a file came from, as a number that anyone can compute again."""

import hashlib

import keras
import numpy as np


def weights_sha256(model: keras.Model) -> str:
    """The SHA-256 over a model's weights, in hexadecimal digits.

    For each of ``model.weights`` in their order it takes a line with its name, type and shape, such as
    ``stem/conv/kernel float32 3,3,3,16`` and a line feed, in UTF-8, and then its values, little-endian, the last axis
    fastest. Two models with the same digest compute the same; that of a run's ``model.keras`` is in every file that was
    exported from it.
    """
    digest = hashlib.sha256()
    for weight in model.weights:
        values = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        shape = ",".join(map(str, values.shape))
        digest.update(f"{weight.path} {values.dtype.name} {shape}\n".encode())
        digest.update(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()
