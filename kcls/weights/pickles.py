"""Pickles of PyTorch's checkpoints, read without torch, and without calling anything that they name.

A pickle is a program for a small stack machine, and Python's own machine imports and calls whatever the program asks
for. This one knows dicts, lists, tuples, strings and numbers, OrderedDict, and PyTorch's storages, tensors, parameters
and dtypes; any other name or instruction ends it. Nothing that it builds takes more memory than its pickle by more than
a constant factor, and nothing is hashed, compared or printed but strings and numbers.
"""

import pickletools
from collections.abc import Callable, Hashable
from typing import Any, BinaryIO, NamedTuple

LIMIT = 8 * 2**20  # bytes of a pickle: 50,000 tensors, 8 s, at most .7 GB of memory. Storages are not inside it

MAX_DIMENSIONS = 32

# What PyTorch calls the storages of a type -> the type.
_STORAGES = {
    "torch DoubleStorage": "float64",
    "torch FloatStorage": "float32",
    "torch HalfStorage": "float16",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "int64",
    "torch IntStorage": "int32",
    "torch ShortStorage": "int16",
    "torch CharStorage": "int8",
    "torch ByteStorage": "uint8",
    "torch BoolStorage": "bool",
}
_DTYPES = {f"torch {dtype}" for dtype in _STORAGES.values()}


class RefusedError(ValueError):
    """A pickle asks for something that no checkpoint of weights needs."""


class Storage(NamedTuple):
    """A row of ``size`` numbers that the file holds under ``key``."""

    dtype: str
    key: str
    size: int


class Tensor(NamedTuple):
    """A view of a storage, as its pickle says it; nothing is checked. Offset and strides count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Unpickled(NamedTuple):
    """What a pickle holds, and all storages that it names, by their keys."""

    content: Any
    storages: dict[str, Storage]


def unpickle(stream: BinaryIO) -> Unpickled:
    """Reads one pickle; the stream stands behind it then.

    Raises:
        RefusedError: it names something that is not known here.
        ValueError, LookupError, TypeError: it is damaged.
    """
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name == "STOP":
            return Unpickled(machine.stack.pop(), machine.storages)
        machine.step(opcode.name, argument)
    raise ValueError("its pickle has no end")


class _Name(NamedTuple):
    """A name of Python that the pickle may use."""

    text: str


class _Machine:
    """The stack, what lies below the marks in it, the memo, and the storages seen so far."""

    def __init__(self):
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self.push(argument)
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise RefusedError(f"its pickle has the instruction {name}, which no state_dict needs")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise ValueError("its pickle takes more than its stack holds")
        items = self.stack[-count:]
        del self.stack[-count:]
        self.push(tuple(items))

    def extend(self, items: list[Any]) -> None:
        _expected(self.stack[-1], list).extend(items)

    def update(self, items: list[Any]) -> None:
        target = _expected(self.stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def pair(self, _) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.update([key, value])

    def remember(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def stack_global(self, _) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.find(f"{_expected(module, str)} {_expected(name, str)}")

    def find(self, name: str) -> None:
        """A name, written as "module name"."""
        if not (name in _STORAGES or name in _DTYPES or name in _CALLS):
            shown = name.replace(" ", ".")[:100]
            raise RefusedError(f"its pickle asks for {shown!r}; only tensors in dicts are read, and no code is run")
        self.push(_Name(name))

    def call(self, _) -> None:
        arguments, name = _expected(self.stack.pop(), tuple), _expected(self.stack.pop(), _Name).text
        if name not in _CALLS:
            raise RefusedError(f"its pickle calls {name.replace(' ', '.')}")
        self.push(_CALLS[name](*arguments))

    def build(self, _) -> None:
        """Attributes of an OrderedDict: PyTorch's version numbers, which only its own modules need."""
        self.stack.pop()
        _expected(self.stack[-1], dict)

    def persistent(self, _) -> None:
        """("storage", type, key, device, count), and in the older format a view of it."""
        parts = _expected(self.stack.pop(), tuple)
        if len(parts) not in (5, 6) or parts[0] != "storage" or parts[5:] not in ((), (None,)):
            raise RefusedError("its pickle has a storage of an unknown kind")
        _, name, key, _, size = parts[:5]
        storage = Storage(_STORAGES[_expected(name, _Name).text], _expected(key, str), _count(size))
        if self.storages.setdefault(storage.key, storage) != storage:
            raise RefusedError(f"its pickle describes the storage {storage.key[:100]!r} in two ways")
        self.push(storage)


def _expected(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"its pickle has a {type(value).__name__} where a {kind.__name__} must be")
    return value


def _key(key: Any) -> Hashable:
    if not isinstance(key, str | int | float | None):
        raise ValueError(f"its pickle has a {type(key).__name__} as the key of a dict")
    return key


def _count(number: Any) -> int:
    if not 0 <= _expected(number, int) < 2**62:
        raise ValueError("its pickle has a negative or an absurd size")
    return number


def _counts(numbers: Any) -> tuple[int, ...]:
    if len(_expected(numbers, tuple)) > MAX_DIMENSIONS:
        raise ValueError(f"its pickle has a tensor of {len(numbers)} dimensions")
    return tuple(_count(number) for number in numbers)


def _ordered_dict() -> dict:
    return {}


def _tensor(storage, offset, shape, strides, requires_grad, hooks, metadata=None) -> Tensor:
    return Tensor(_expected(storage, Storage), _count(offset), _counts(shape), _counts(strides))


def _parameter(tensor, requires_grad, hooks) -> Tensor:
    return _expected(tensor, Tensor)


_CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": _ordered_dict,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}

_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": _Machine.mark,
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "SETITEM": _Machine.pair,
    "SETITEMS": lambda machine, _: machine.update(machine.since_mark()),
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    "BINGET": lambda machine, place: machine.push(machine.memo[place]),
    "LONG_BINGET": lambda machine, place: machine.push(machine.memo[place]),
    "GLOBAL": _Machine.find,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
