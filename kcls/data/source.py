"""The contract of a place that images come from, and images that are kept in memory.

``Data`` is what a recipe's data section names, looked up once; ``Source`` is one of its splits. A kind of place is a
file with one class of each.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from kcls.errors import DataError, RecipeError
from kcls.sections import DataSection

ROLES = ("train", "val", "test")
Order = tuple[Any, Any] | None


class Source(ABC):
    """``count`` labelled images of the classes ``class_names``: the split with the role ``role``.

    A ticket stands for one image: it is cheap to make in order, to pass over and to leave out. ``record`` opens it.

    Attributes:
        fingerprint: a short text that changes when the images become others, by name; their pixels are not read.
        labelled: whether the images have labels; if not, each has -1.
    """

    labelled = True

    def __init__(self, role: str, count: int, class_names: tuple[str, ...], fingerprint: str):
        self.role = role
        self.count = count
        self.class_names = class_names
        self.fingerprint = fingerprint

    @property
    def title(self) -> str:
        """What errors call it."""
        return f"split {self.role!r}"

    @abstractmethod
    def tickets(self, order: Order = None, start=0) -> tf.data.Dataset:
        """One ticket an image, whose first part is the image's index (int64).

        Args:
            order: None is the split's own order; (seed, epoch) is a shuffled order, always the same for the same two
                numbers (integers or scalar tensors).
            start: number of images to leave out at the beginning.
        """

    @abstractmethod
    def record(self, *ticket):
        """A ticket -> (index int64, encoded bytes, a scalar string, or a square uint8 (S, S, 3), label int64)."""

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """The own name of each image, in the split's order: it stays when other images come or go."""

    @cached_property
    def labels(self) -> np.ndarray:
        """The index of each image's class, (N,), in the split's order."""
        return np.array(_all(self.tickets().map(lambda *ticket: self.record(*ticket)[2])), np.int64)


def _all(dataset: tf.data.Dataset) -> list:
    return list(dataset.as_numpy_iterator())


class Data(ABC):
    """The images that a recipe's data section names.

    Args:
        section: the recipe's data section.
        download: whether what is not on this machine may be downloaded.

    Raises:
        RecipeError: the place is unknown.
        DataError: it is missing, would have to be downloaded, or cannot be used.
    """

    def __init__(self, section: DataSection, download: bool = False):
        self.section = section
        self._known: dict[str, Source] = {}

    @abstractmethod
    def _open(self, role: str, expression: str) -> Source:
        """The split of that expression."""

    def split(self, role: str) -> Source:
        """The split that the recipe gives the role ``train``, ``val`` or ``test``.

        Raises:
            RecipeError: the recipe has no such split.
            DataError: it is empty, is not there, or has other classes than ``train``.
        """
        expression = getattr(self.section, role, None) if role in ROLES else None
        if expression is None:
            raise RecipeError(f"the recipe states no split {role!r} in its data section")
        if role not in self._known:
            source = self._open(role, expression)
            if source.count == 0:
                raise DataError(f"split {role!r} ({expression}) of {self.section.source} is empty")
            self._known[role] = source
        return self._known[role]


class RandomAccess(Source):
    """A source whose tickets are just indices, so that a shuffled order needs no buffer."""

    def tickets(self, order: Order = None, start=0) -> tf.data.Dataset:
        """See ``Source.tickets``."""
        positions = tf.data.Dataset.range(start, self.count)
        if order is None:
            return positions
        seed = tf.stack([tf.cast(number, tf.int32) for number in order])
        last = tf.constant(self.count - 1, tf.int64)
        return positions.map(lambda position: tf.random.experimental.index_shuffle(position, seed, last))


class InMemory(RandomAccess):
    """What was made of a source's images, kept.

    Args:
        source: whose images they are.
        values: one of each image, in the split's order: a tensor (N, ...).
        labels: int64 (N,).

    Raises:
        DataError: an image has no label.
    """

    def __init__(self, source: Source, values: tf.Tensor, labels: tf.Tensor):
        super().__init__(source.role, source.count, source.class_names, source.fingerprint)
        self._source, self._values, self._labels = source, values, labels
        if tf.reduce_any(labels < 0):
            raise DataError(f"split {source.role!r} holds images without a label")

    @classmethod
    def read(cls, source: Source, view: Callable) -> "InMemory":
        """What ``view`` makes of each image of a source."""

        def example(*ticket):
            _, contents, label = source.record(*ticket)
            return view(contents), label

        with tf.device("CPU"):  # a GPU's memory is for the training
            examples = source.tickets().map(example, num_parallel_calls=tf.data.AUTOTUNE).batch(256)
            batches = _all(examples)
            return cls(source, tf.concat([x for x, _ in batches], 0), tf.concat([y for _, y in batches], 0))

    def record(self, index):
        """See ``Source.record``."""
        return index, self._values[index], self._labels[index]

    @property
    def names(self) -> Sequence[str]:
        """See ``Source.names``."""
        return self._source.names
