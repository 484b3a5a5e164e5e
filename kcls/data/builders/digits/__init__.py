"""Handwritten digits: 1,797 real images of 13 writers, 8 x 8 pixels, 10 classes, embedded in kcls.

The test set of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998), UCI Machine Learning
Repository, doi:10.24432/C50P49, CC BY 4.0; the same images as scikit-learn's ``load_digits``.
"""

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

FILE = Path(__file__).with_name("digits.npz")
TEST_SHARE = 0.2  # of each class


class Digits(tfds.core.GeneratorBasedBuilder):
    """The digits as a TensorFlow data set with the splits train (1,438) and test (359)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            license="CC BY 4.0",
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        with np.load(FILE) as file:
            images, labels = file["images"], file["labels"]
        # The source has no split of these images: one fifth of each class is drawn once, with a fixed seed.
        random = np.random.RandomState(0)
        is_test = np.zeros(len(labels), bool)
        for digit in range(10):
            members = random.permutation(np.flatnonzero(labels == digit))
            is_test[members[: round(TEST_SHARE * len(members))]] = True
        grey = np.round(images * (255 / 16)).astype(np.uint8)[..., np.newaxis]  # the source counts 0 to 16
        return {
            "train": self._generate_examples(grey, labels, np.flatnonzero(~is_test)),
            "test": self._generate_examples(grey, labels, np.flatnonzero(is_test)),
        }

    def _generate_examples(self, images, labels, indices):
        for i in indices:
            yield int(i), {"image": images[i], "label": int(labels[i])}
