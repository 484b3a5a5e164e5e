"""Reading images, and naming the files that cannot be read."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from kcls.data.decode import decode_tensor, read_image
from kcls.data.folder import FolderSource
from kcls.data.source import Order, Source
from kcls.errors import DataError

MOST_LOOKED_AT = 20_000  # images that are decoded to name those that cannot be
MOST_NAMED = 20


def reading(source: Source, read: Callable[[], Any], order: Order = None, start: int = 0) -> Any:
    """Calls ``read``, which reads images of ``source``; if one of them cannot be decoded, names such files.

    Args:
        source: what is read.
        read: reads some of it.
        order: in which it is read, see ``Source.tickets``.
        start: how many images of that order were read before; the next ones are looked at first.

    Raises:
        DataError: one or more images cannot be decoded.
    """
    try:
        return read()
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.PermissionDeniedError) as error:
        bad = _undecodable(source, order, start) if isinstance(source, FolderSource) else []
        if not bad:
            raise DataError(f"an image of {source.title} cannot be decoded: {error.message}") from None
        shown = "\n".join(f"  {_reason(path)}" for path in bad[:MOST_NAMED])
        more = f"\n  and {len(bad) - MOST_NAMED} more" if len(bad) > MOST_NAMED else ""
        looked_at = min(source.count - start, MOST_LOOKED_AT)
        raise DataError(
            f"{len(bad)} of {looked_at} images of {source.title} cannot be decoded; remove or repair them:\n"
            f"{shown}{more}"
        ) from None


def _undecodable(source: FolderSource, order: Order, start: int) -> list[str]:
    """The paths of the files that TensorFlow cannot decode."""

    def size(*ticket):
        index, contents, _ = source.record(*ticket)
        return index, tf.size(decode_tensor(contents))

    tickets = source.tickets(order, start).take(MOST_LOOKED_AT)
    good = tickets.map(size, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    bad = set(tickets.as_numpy_iterator()) - {index for index, _ in good.as_numpy_iterator()}
    return [source.paths[index] for index in sorted(bad)]


def _reason(path: str) -> str:
    """A line about a file that TensorFlow cannot decode, with Pillow's reason if it has one."""
    try:
        read_image(path)
    except DataError as reason:
        return str(reason)
    try:
        decode_tensor(tf.io.read_file(path))
    except tf.errors.OpError as error:
        return f"{path}: TensorFlow cannot decode it ({error.message.splitlines()[0]})"
    return f"{path}: it could not be read a moment ago, and now it can"
