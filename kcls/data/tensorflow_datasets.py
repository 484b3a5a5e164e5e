"""TensorFlow Datasets, and our own data sets in their form."""

import contextlib
import importlib
import io
import itertools
import re
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import tensorflow as tf

from kcls.data.builders import EMBEDDED
from kcls.data.source import ROLES, Data, Order, Source
from kcls.errors import DataError, RecipeError, near
from kcls.sections import DataSection

SHUFFLE_BUFFER = 16_384  # records, as they can only be read in order


class TfdsSource(Source):
    """Records that can be read in order only; a shuffled order has the reach of a buffer."""

    def __init__(self, role: str, builder: Any, expression: str, keys: tuple[str, str]):
        info = builder.info
        self.image_key, self.label_key = keys
        self.builder, self.expression = builder, expression
        try:
            count = info.splits[expression].num_examples
        except (KeyError, ValueError, AssertionError) as error:
            raise DataError(f"{builder.name} has no split {expression!r}: {error}") from None
        class_names = tuple(info.features[self.label_key].names)
        super().__init__(role, count, class_names, f"{info.full_name} {expression} {count} examples")

    @property
    def size_bytes(self) -> int:
        """About what the encoded images take; 0 if it is not known."""
        splits = self.builder.info.splits
        total = sum(split.num_examples for split in splits.values())
        return sum(split.num_bytes for split in splits.values()) * self.count // max(total, 1)

    def tickets(self, order: Order = None, start=0) -> tf.data.Dataset:
        """See ``Source.tickets``."""
        import tensorflow_datasets as tfds

        records = self.builder.as_dataset(
            split=self.expression,
            decoders={self.image_key: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(try_autocache=False, assert_cardinality=False, add_tfds_id=True),
        ).enumerate()
        if order is not None:
            numbers = tf.stack([tf.cast(number, tf.int32) for number in order])
            records = _shuffled(records, tf.random.stateless_uniform((2,), numbers, maxval=2**62, dtype=tf.int64))
        return records.skip(start)

    def record(self, index, record):
        """See ``Source.record``."""
        return index, record[self.image_key], record[self.label_key]

    @cached_property
    def names(self) -> Sequence[str]:
        """See ``Source.names``: the place in its file that TensorFlow Datasets gives each record."""
        return [name.decode() for name in self.tickets().map(lambda _, record: record["tfds_id"]).as_numpy_iterator()]


def _shuffled(records: tf.data.Dataset, seed) -> tf.data.Dataset:
    """``Dataset.shuffle`` by these two numbers alone; the method mixes in the global seed, and takes no tensors."""
    spec = records.element_spec
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(records),
        buffer_size=SHUFFLE_BUFFER,
        seed=seed[0],
        seed2=seed[1],
        reshuffle_each_iteration=False,
        output_types=[part.dtype for part in tf.nest.flatten(spec)],
        output_shapes=[part.shape for part in tf.nest.flatten(spec)],
    )
    return tf.data.experimental.from_variant(variant, spec)


class TfdsData(Data):
    """A TensorFlow data set that is prepared on this machine."""

    def __init__(self, section: DataSection, download: bool = False):
        super().__init__(section, download)
        self.builder = prepared_builder(section, download)
        self.keys = _keys(self.builder)
        self._check_disjoint()

    def _check_disjoint(self) -> None:
        """Refuses splits that share images, by the ranges that their expressions mean."""
        import tensorflow_datasets as tfds

        splits, ranges = self.builder.info.splits, {}
        for role in ROLES:
            expression = getattr(self.section, role)
            try:
                parts = tfds.core.ReadInstruction.from_spec(expression).to_absolute(splits) if expression else []
            except (KeyError, ValueError, AssertionError) as error:
                raise DataError(f"{self.builder.name} has no split {expression!r}: {error}") from None
            ends = [splits[p.splitname].num_examples if p.to is None else p.to for p in parts]
            ranges[role] = [(p.splitname, p.from_ or 0, end) for p, end in zip(parts, ends, strict=True)]
        for a, b in itertools.combinations(ROLES, 2):
            for (name, low, high), (other, other_low, other_high) in itertools.product(ranges[a], ranges[b]):
                if name == other and max(low, other_low) < min(high, other_high):
                    raise DataError(
                        f"{a} ({getattr(self.section, a)}) and {b} ({getattr(self.section, b)}) share images of "
                        f"{self.builder.name}'s {name}: {max(low, other_low)} to {min(high, other_high)}"
                    )

    def _open(self, role: str, expression: str) -> TfdsSource:
        return TfdsSource(role, self.builder, expression, self.keys)


def prepared_builder(data: DataSection, download: bool) -> Any:
    """The TensorFlow data set, prepared on disk; a download happens only if it was asked for."""
    import tensorflow_datasets as tfds

    name = re.split("[:/]", data.source)[0]
    if name in EMBEDDED:
        importlib.import_module(f"kcls.data.builders.{name}")
    try:
        builder = tfds.builder(data.source, data_dir=data.data_dir)
    except tfds.core.DatasetNotFoundError:
        hint = near(name, [*EMBEDDED, "folder", *tfds.list_builders(with_community_datasets=False)])
        raise RecipeError(f"data.source: no data set {name!r} in TensorFlow Datasets{hint}") from None
    except (ValueError, AssertionError) as error:
        raise RecipeError(f"data.source {data.source!r}: {error}") from None
    if builder.is_prepared():
        return builder
    if name not in EMBEDDED and not download:
        size = sum(info.size or 0 for info in builder.url_infos.values()) if builder.url_infos else 0
        raise DataError(
            f"{builder.info.full_name} is not in {builder.data_dir_root}. "
            f"It would download {_mebibytes(size)}; add --download to allow that, "
            "or set data.data_dir or TFDS_DATA_DIR to the folder that has it"
        )
    if name in EMBEDDED:
        tfds.disable_progress_bar()
    said = io.StringIO() if name in EMBEDDED else sys.stderr  # stdout is for results
    try:
        with contextlib.redirect_stdout(said):
            builder.download_and_prepare()
    except Exception as error:  # TensorFlow Datasets raises many kinds, a RuntimeError for a full disk among them
        again = tfds.builder(data.source, data_dir=data.data_dir)
        if again.is_prepared():  # another process did it at the same time
            return again
        raise DataError(
            f"cannot prepare {builder.info.full_name} in {builder.data_dir_root}: {error}. "
            "TFDS_DATA_DIR or data.data_dir can name another folder"
        ) from error
    return builder


def _keys(builder: Any) -> tuple[str, str]:
    """Names of the image and the class label among the features."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    keys = [k for k in builder.info.supervised_keys or ("image", "label") if k in features]
    image = [k for k in keys if isinstance(features[k], tfds.features.Image)]
    label = [k for k in keys if isinstance(features[k], tfds.features.ClassLabel)]
    if len(image) != 1 or len(label) != 1:
        raise DataError(f"{builder.name} is not for image classification: its features are {', '.join(features)}")
    return image[0], label[0]


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB" if size else "an unknown amount"
