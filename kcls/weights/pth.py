"""Checkpoints of ``torch.save``, read without torch: .pth, .pt and .bin files.

Since PyTorch 1.6 such a file is a zip archive: data.pkl, the pickle, and one entry a storage. Before, it was a row of
pickles (a magic number, a version, the machine's sizes, the object, the keys of its storages) and then the storages.
"""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from kcls.errors import KclsError
from kcls.weights.pickles import LIMIT, RefusedError, Storage, Tensor, unpickle
from kcls.weights.tensors import TensorFile

MAGIC = 0x1950A86A20F9469CFC6C
# Where training programs put the weights; as timm, an average over the training before the last step's.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state", "model")
# What a damaged file raises in the readers of pickles, archives and arrays.
DAMAGE = (ValueError, LookupError, TypeError, OverflowError, OSError, EOFError, RuntimeError)


class _Container(Protocol):
    content: Any
    little_endian: bool

    def check(self, storage: Storage) -> None:
        """Raises ValueError if the file does not have the storage whole."""

    def bytes_of(self, storage: Storage) -> np.ndarray:
        """The storage's bytes; others may follow."""


@contextmanager
def open_pth(file: Path) -> Iterator[TensorFile]:
    """The tensors of a checkpoint, none of which is read yet; its weights are looked for in ``WRAPPERS``.

    Raises:
        KclsError: it cannot be read, is damaged, asks for code, or holds no dict of tensors.
    """
    with open(file, "rb") as stream:
        with _told(file):
            container: _Container = _Zip(stream) if stream.read(4) == b"PK\3\4" else _Row(stream)
            wrapper, tensors = _state_dict(container.content)
            for name, tensor in tensors.items():
                _check_view(name, tensor)
                container.check(tensor.storage)

        def get(name: str) -> np.ndarray:
            with _told(file):
                return _viewed(container.bytes_of(tensors[name].storage), tensors[name], container.little_endian)

        notes = (f"the weights under {wrapper!r}",) if wrapper else ()
        yield TensorFile({name: tensor.shape for name, tensor in tensors.items()}, get, notes)


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """What is wrong with a file, as a user's error."""
    try:
        yield
    except RefusedError as error:
        raise KclsError(f"{file} is refused: {error}") from None
    except (*DAMAGE, zipfile.BadZipFile) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else error
        raise KclsError(f"{file} is damaged or not a file of torch.save: {reason}") from None


class _Zip:
    """The zip archive. Its entries are not compressed, and carry checksums, which are looked at."""

    def __init__(self, stream: BinaryIO):
        self._archive = zipfile.ZipFile(stream)
        self._entries = {entry.filename: entry for entry in self._archive.infolist()}
        pickles = [name for name in self._entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("the archive has no data.pkl")
        self._root = pickles[0].removesuffix("data.pkl")
        if self._entries[pickles[0]].file_size > LIMIT:
            raise RefusedError(f"its pickle is larger than {LIMIT} bytes")
        self.content = unpickle(io.BytesIO(self._read("data.pkl"))).content
        order = self._read("byteorder") if f"{self._root}byteorder" in self._entries else b"little"
        self.little_endian = order != b"big"
        self._last: tuple[str | None, bytes] = (None, b"")

    def _read(self, name: str) -> bytes:
        entry = self._entries[self._root + name]
        if entry.compress_type != zipfile.ZIP_STORED:  # so that nothing is larger than the file
            raise RefusedError(f"{entry.filename} is compressed, which torch.save never does")
        return self._archive.read(entry)

    def check(self, storage: Storage) -> None:
        entry = self._entries.get(f"{self._root}data/{storage.key}")
        if entry is None:
            raise ValueError(f"the storage {storage.key[:100]!r} is missing")
        _check_size(storage, min(entry.file_size, entry.compress_size) // _itemsize(storage))

    def bytes_of(self, storage: Storage) -> np.ndarray:
        if storage.key != self._last[0]:  # tensors that share a storage follow each other
            self._last = storage.key, self._read(f"data/{storage.key}")
        return np.frombuffer(self._last[1], np.uint8)


class _Row:
    """The older format; the storages stay in the file until they are asked for."""

    def __init__(self, stream: BinaryIO):
        stream.seek(0)
        head = io.BytesIO(stream.read(LIMIT))
        if unpickle(head).content != MAGIC:
            raise ValueError("it does not begin with PyTorch's magic number")
        unpickle(head)  # the version, which never changed
        self.little_endian = unpickle(head).content["little_endian"]
        self.content, storages = unpickle(head)
        keys = unpickle(head).content
        self._bytes = np.memmap(stream, np.uint8, "r")
        self._starts: dict[str, int] = {}
        position = head.tell()
        for key in keys:
            if not isinstance(key, str):
                raise ValueError(f"a storage is called by a {type(key).__name__}")
            start = position + 8
            position = start + storages[key].size * _itemsize(storages[key])
            if position > self._bytes.size:
                raise ValueError(f"it ends within the storage {key[:100]!r}")
            _check_size(storages[key], int(self._bytes[start - 8 : start].view("<i8")[0]))
            self._starts[key] = start

    def check(self, storage: Storage) -> None:
        if storage.key not in self._starts:
            raise ValueError(f"the storage {storage.key[:100]!r} is missing")

    def bytes_of(self, storage: Storage) -> np.ndarray:
        return self._bytes[self._starts[storage.key] :]


def _itemsize(storage: Storage) -> int:
    return 2 if storage.dtype == "bfloat16" else np.dtype(storage.dtype).itemsize


def _check_size(storage: Storage, size: int) -> None:
    if size != storage.size:
        raise ValueError(f"the storage {storage.key[:100]!r} has {size} numbers, its pickle says {storage.size}")


def _state_dict(content: Any) -> tuple[str | None, dict[str, Tensor]]:
    """The dict of tensors, and the name under which it was."""
    if not isinstance(content, dict):
        raise RefusedError(f"it holds a {type(content).__name__}, not a dict of tensors")
    wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)
    found = content[wrapper] if wrapper else content
    others = [str(k)[:100] for k, v in found.items() if not (isinstance(k, str) and isinstance(v, Tensor))]
    if others or not found:
        where = f"under {wrapper!r} it has" if wrapper else "it has"
        what = f"other things than tensors: {', '.join(others[:10])}" if others else "no tensors"
        raise RefusedError(f"{where} {what}; expected a state_dict, or one under {', '.join(WRAPPERS)}")
    return wrapper, found


def _check_view(name: str, tensor: Tensor) -> None:
    """Whether a tensor lies in its storage, and is not larger than it."""
    if len(tensor.shape) != len(tensor.strides):
        raise ValueError(f"{name[:100]} has {len(tensor.shape)} dimensions and {len(tensor.strides)} strides")
    count, last = 1, tensor.offset
    for size, stride in zip(tensor.shape, tensor.strides, strict=True):
        count *= size
        last += (size - 1) * stride
    if count and (last >= tensor.storage.size or count > tensor.storage.size):
        where = f"shape {tensor.shape}, strides {tensor.strides}, offset {tensor.offset}"
        raise ValueError(f"{name[:100]} ({where}) is not inside its storage of {tensor.storage.size} numbers")


def _viewed(raw: np.ndarray, tensor: Tensor, little_endian: bool) -> np.ndarray:
    """A tensor as an array of its own, in this machine's byte order; bfloat16 as float32, of which it is a half."""
    bfloat16, itemsize = tensor.storage.dtype == "bfloat16", _itemsize(tensor.storage)
    dtype = np.dtype(np.uint16 if bfloat16 else tensor.storage.dtype).newbyteorder("<" if little_endian else ">")
    numbers = raw[: tensor.storage.size * itemsize].view(dtype)
    if numbers.size != tensor.storage.size:  # the strides below would leave it
        raise ValueError(f"the storage {tensor.storage.key[:100]!r} is cut")
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, np.float32 if bfloat16 else tensor.storage.dtype)
    strides = [stride * itemsize if size > 1 else 0 for size, stride in zip(tensor.shape, tensor.strides, strict=True)]
    value = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides)
    if bfloat16:
        return (value.astype(np.uint32) << 16).view(np.float32)
    return value.astype(dtype.newbyteorder("="))
