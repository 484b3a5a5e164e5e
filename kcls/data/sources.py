"""From a recipe's data section to a split: labelled square images, in order or in a shuffled order.

Two sources, image folders and TensorFlow Datasets (our embedded data sets among them), one interface.
"""

import contextlib
import importlib
import io
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from kcls.data.builders import EMBEDDED
from kcls.data.decode import decode_tensor, read_image
from kcls.data.folder import Files, list_files
from kcls.data.preprocess import Preprocess
from kcls.errors import DataError, RecipeError, near
from kcls.sections import DataSection

MEMORY_LIMIT = 2**30  # bytes of squares: a split below is decoded once and kept
SHUFFLE_BUFFER = 16_384  # records, where a split can only be read in order


class Split(ABC):
    """``count`` labelled images of the classes ``class_names``; without ``preprocess``, in their own sizes.

    ``names``: of the images, in the split's own order: the path from the folder, else ``split/index``.
    """

    def __init__(self, name: str, names: Sequence[str], class_names: tuple[str, ...], preprocess: Preprocess | None):
        self.name = name
        self.names = names
        self.count = len(names)
        self.class_names = class_names
        self.preprocess = preprocess

    @abstractmethod
    def examples(self, order=None, start: int = 0, every: int = 1) -> tf.data.Dataset:
        """A stream of (index int64, image uint8 (S, S, 3) or (H, W, 3), label int64).

        Args:
            order: None is the split's own order; (seed, epoch) is a shuffled order, always the same for the same
                two numbers.
            start: number of examples to leave out at the beginning.
            every: 2 gives every second example only, and decodes no other.
        """

    def pixels(self, contents):
        """Encoded bytes -> the image as this split gives it."""
        image = decode_tensor(contents)
        return self.preprocess.tensor(image) if self.preprocess else image


def _positions(count: int, order, start: int) -> tf.data.Dataset:
    """The indices 0 to count - 1 in the wanted order, from ``start`` on, without a buffer."""
    positions = tf.data.Dataset.range(start, count)
    if order is None:
        return positions
    seed = tf.cast(tf.stack(order), tf.int32)
    last = tf.constant(count - 1, tf.int64)
    return positions.map(lambda p: tf.random.experimental.index_shuffle(p, seed, last))


class _FolderSplit(Split):
    """Files that are read and decoded in every pass."""

    def __init__(self, name: str, root: str, files: Files, preprocess: Preprocess | None):
        super().__init__(name, [os.path.relpath(path, root) for path in files.paths], files.class_names, preprocess)
        self.paths, self.labels = files.paths, files.labels

    def examples(self, order=None, start=0, every=1):
        paths, labels = tf.constant(self.paths), tf.constant(self.labels)

        def read(i):
            return i, self.pixels(tf.io.read_file(paths[i])), labels[i]

        return _positions(self.count, order, start).shard(every, 0).map(read, num_parallel_calls=tf.data.AUTOTUNE)


class _TfdsSplit(Split):
    """Records that can be read in order only; a shuffled order has the reach of a buffer."""

    def __init__(self, name: str, builder: Any, expression: str, preprocess: Preprocess | None):
        info = builder.info
        self.image_key, self.label_key = _keys(builder)
        self.builder, self.expression = builder, expression
        try:
            count = info.splits[expression].num_examples
        except (KeyError, ValueError, AssertionError) as error:
            raise DataError(f"{builder.name} has no split {expression!r}: {error}") from None
        names = [f"{expression}/{i}" for i in range(count)]
        super().__init__(name, names, tuple(info.features[self.label_key].names), preprocess)

    def examples(self, order=None, start=0, every=1):
        import tensorflow_datasets as tfds

        records = self.builder.as_dataset(
            split=self.expression,
            decoders={self.image_key: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(try_autocache=False, assert_cardinality=False),
        ).enumerate()
        if order is not None:
            seed = tf.random.stateless_uniform((), tf.stack(order), maxval=2**62, dtype=tf.int64)
            records = records.shuffle(min(self.count, SHUFFLE_BUFFER), seed, reshuffle_each_iteration=False)

        def decode(i, record):
            return i, self.pixels(record[self.image_key]), record[self.label_key]

        return records.skip(start).shard(every, 0).map(decode, num_parallel_calls=tf.data.AUTOTUNE)


class _MemorySplit(Split):
    """A small split, decoded once."""

    def __init__(self, source: Split):
        super().__init__(source.name, source.names, source.class_names, source.preprocess)
        batches = list(source.examples().batch(256).as_numpy_iterator())
        self.images = tf.concat([images for _, images, _ in batches], 0)
        self.labels = tf.concat([labels for _, _, labels in batches], 0)
        if tf.reduce_any(self.labels < 0):
            raise DataError(f"split {source.name!r} holds images without a label")

    def examples(self, order=None, start=0, every=1):
        images, labels = self.images, self.labels
        positions = _positions(self.count, order, start).shard(every, 0)
        return positions.map(lambda i: (i, images[i], labels[i]))


def open_split(data: DataSection, role: str, *, download: bool = False, raw: bool = False) -> Split:
    """Opens the split that a recipe gives the role ``train``, ``val`` or ``test``.

    Args:
        data: the recipe's data section.
        role: which of its splits.
        download: whether a TensorFlow data set that is not on this machine may be downloaded.
        raw: whether the images keep their own sizes.

    Raises:
        RecipeError: the recipe has no such split, or the source is unknown.
        DataError: the data is missing, would have to be downloaded, or cannot be used.
    """
    expression = getattr(data, role, None) if role in ("train", "val", "test") else None
    if expression is None:
        raise RecipeError(f"the recipe states no split {role!r} in its data section")
    preprocess = None if raw else Preprocess.from_recipe(data)
    split: Split
    if data.source == "folder":
        split = _FolderSplit(role, data.path or "", _folder_files(data, role, expression), preprocess)
    else:
        split = _TfdsSplit(role, prepared_builder(data, download), expression, preprocess)
    if split.count == 0:
        raise DataError(f"split {role!r} ({expression}) of {data.source} is empty")
    if not raw and split.count * data.side**2 * 3 <= MEMORY_LIMIT:
        split = reading(split, lambda: _MemorySplit(split))
    return split


def reading(split: Split, read: Callable[[], Any]) -> Any:
    """Calls ``read``, which reads images of ``split``; if one of them cannot be decoded, names all such files.

    Raises:
        DataError: one or more images cannot be decoded.
    """
    try:
        return read()
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.PermissionDeniedError) as error:
        bad = _undecodable(split.paths) if isinstance(split, _FolderSplit) else []
        if not bad:
            raise DataError(f"an image of split {split.name!r} cannot be decoded: {error.message}") from None
        shown = "\n".join(f"  {line}" for line in bad[:20])
        more = f"\n  and {len(bad) - 20} more" if len(bad) > 20 else ""
        raise DataError(
            f"{len(bad)} of {split.count} images of split {split.name!r} cannot be decoded; remove or repair them:\n"
            f"{shown}{more}"
        ) from None


def _undecodable(paths: list[str]) -> list[str]:
    """A line for every file that TensorFlow cannot decode, with Pillow's reason if it has one."""
    bad = []
    for path in paths:
        try:
            decode_tensor(tf.io.read_file(path))
        except tf.errors.OpError as error:
            try:
                read_image(path)
                bad.append(f"{path}: TensorFlow cannot decode it ({error.message.splitlines()[0]})")
            except DataError as reason:
                bad.append(str(reason))
    return bad


def _folder_files(data: DataSection, role: str, expression: str) -> Files:
    """The split's files, with the classes checked against those of the training split."""
    root = data.path or ""
    files = list_files(root, expression, data.split_seed)
    if role == "train":
        empty = [n for i, n in enumerate(files.class_names) if not (files.labels == i).any()]
        if empty:
            raise DataError(
                f"split {expression!r} of {root} has no image of {', '.join(empty)}; give train a larger part"
            )
        return files
    expected = list_files(root, data.train, data.split_seed).class_names
    if files.class_names != expected:
        missing = sorted(set(expected) - set(files.class_names))
        new = sorted(set(files.class_names) - set(expected))
        raise DataError(
            f"the classes of {role} differ from those of train in {root}:"
            + (f" missing {', '.join(missing)};" if missing else "")
            + (f" not in train {', '.join(new)};" if new else "")
        )
    return files


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
