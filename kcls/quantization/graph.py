"""What the graph of a network says about its int8 form: which tensors have one scale, and where ranges stand."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

CONVOLUTIONS = {"Conv2D", "DepthwiseConv2D"}
KERNELS = {*CONVOLUTIONS, "Dense"}
CLAMPS = {"relu", "relu6", "linear"}
# What a clamp behind it becomes a part of.
CLAMPED = {*KERNELS, "BatchNormalization", "Add"}
# The converter multiplies what they multiply with into a kernel before them, whose steps it changes.
FACTORS = {"BatchNormalization", "LayerScale", "Rescaling"}
# LiteRT wants their output at the scale of their input.
CARRIERS = {
    *("Concatenate", "MaxPooling2D", "ZeroPadding2D", "Pad", "GetItem", "Flatten", "Reshape", "Cast"),
    *("Dropout", "DropPath", "Identity", "FirstOf"),
}
# LiteRT knows the scale of their output.
FIXED = {"sigmoid"}
# Their output has a scale of its own.
MAKERS = {
    *CLAMPED,
    *CLAMPS,
    *("silu", "hard_silu", "hard_sigmoid"),
    *("Rescaling", "AveragePooling2D", "GlobalAveragePooling2D", "Mean", "Subtract", "Multiply"),
}


def kind(operation) -> str:
    """What an operation is: the name of its class, or of its function if it is an activation."""
    if isinstance(operation, layers.Activation):
        return operation.activation.__name__
    if type(operation) is layers.ReLU and not operation.negative_slope and not operation.threshold:
        return {None: "relu", 6.0: "relu6"}.get(operation.max_value, "ReLU")
    return type(operation).__name__


def stride_of(operation) -> int:
    """The stride of a slice x[:, ::stride, ::stride] of (B, H, W, C); 1 of any other operation."""
    if type(operation).__name__ != "GetItem":
        return 1
    parts = _key(operation)
    if len(parts) < 3 or not all(isinstance(part, slice) and part.start is part.stop is None for part in parts):
        return 1
    batch, rows, columns, *channels = (part.step or 1 for part in parts)
    return rows if rows == columns and {batch, *channels} == {1} else 1


def _key(item) -> list[Any]:
    """What a slice or index was made with, for each axis from the first."""
    _, key = item._inbound_nodes[0].arguments.args
    return list(key) if isinstance(key, (tuple, list)) else [key]


def _is_plain(item) -> bool:
    """Whether a slice has no steps, and is not an index."""
    return all(isinstance(part, slice) and part.step in (None, 1) for part in _key(item))


class Graph:
    """The operations of a flat functional model in the order of computation, and who takes the output of each."""

    def __init__(self, model: keras.Model):
        self.operations = [op for op in model.operations if not isinstance(op, layers.InputLayer)]
        self._takers: dict[int, list[Any]] = defaultdict(list)
        for operation in self.operations:
            for x in inputs_of(operation):
                self._takers[id(x)].append(operation)
        self.first = {operation.name for x in model.inputs for operation in self._takers[id(x)]}

    def only_taker(self, operation) -> Any | None:
        """The one operation that takes an operation's output, if nothing else does."""
        takers = self._takers[id(operation.output)]
        return takers[0] if len(takers) == 1 else None

    def stands_alone(self, norm) -> bool:
        """Whether a batch norm follows no convolution that it could be folded into, because nothing else sees it."""
        (x,) = inputs_of(norm)
        before = x._keras_history.operation
        return kind(before) not in CONVOLUTIONS or not _is_linear(before) or self.only_taker(before) is not norm

    def carries(self, operation) -> bool:
        """Whether the output of an operation has the scale of its input."""
        if kind(operation) in CLAMPS:  # the delegate has no clamp between two scales
            (x,) = inputs_of(operation)
            return not self._is_clamped(x._keras_history.operation)
        return kind(operation) in CARRIERS or (kind(operation) == "AveragePooling2D" and operation.padding == "same")

    def has_range(self, operation) -> bool:
        """Whether a range stands behind an operation.

        If not, its output is at the scale of its input or at a known one, or no number of the file: the batch norm
        or the clamp that follows is a part of the same operator there.
        """
        if stride_of(operation) > 1:  # a convolution then
            return True
        if self.carries(operation) or kind(operation) in FIXED:
            return False
        taker = self.only_taker(operation)
        if kind(taker) == "BatchNormalization":
            return self.stands_alone(taker)
        return not self._is_clamped(operation)

    def _is_clamped(self, operation) -> bool:
        """Whether a clamp that follows becomes a part of an operation."""
        return kind(operation) in CLAMPED and kind(self.only_taker(operation)) in CLAMPS

    def ends(self) -> dict[str, str]:
        """Where the operators of a file end that have a kernel: the last name of each -> that of its first.

        A batch norm and a clamp behind a kernel are parts of the same operator.
        """
        found = {}
        for operation in (op for op in self.operations if kind(op) in KERNELS):
            last, taker = operation, self.only_taker(operation)
            if kind(taker) == "BatchNormalization" and not self.stands_alone(taker):
                last, taker = taker, self.only_taker(taker)
            if kind(taker) in CLAMPS:
                last = taker
            found[last.name] = operation.name
        return found


def inputs_of(operation) -> list[Any]:
    """The tensors that an operation takes."""
    return keras.tree.flatten(operation.input)


def _is_linear(layer) -> bool:
    return layer.activation is keras.activations.linear


@dataclass(frozen=True)
class Place:
    """The range behind an operation.

    Attributes:
        range: its name.
        number: which of its tensors the operation's output is.
        count: how many tensors it has.
    """

    range: str
    number: int
    count: int


def places(graph: Graph) -> dict[str, Place]:
    """The ranges behind operations, by the operations' names; what LiteRT wants at one scale has one range."""
    scale = _scales(graph)
    makers = [operation for operation in graph.operations if graph.has_range(operation)]
    counts = Counter(scale(operation.output) for operation in makers)
    names: dict[int, str] = {}
    numbers: Counter[int] = Counter()
    found = {}
    for operation in makers:
        group = scale(operation.output)
        name = names.setdefault(group, f"{operation.name}_range")
        found[operation.name] = Place(name, numbers[group], counts[group])
        numbers[group] += 1
    return found


def _scales(graph: Graph) -> Callable[[Any], int]:
    """A function from a tensor to the number of its scale, equal for tensors that must have one scale."""
    parents: dict[int, int] = {}

    def root(x: int) -> int:
        while parents.setdefault(x, x) != x:
            x = parents[x]
        return x

    for operation in graph.operations:
        if graph.carries(operation):
            for x in inputs_of(operation):
                parents[root(id(x))] = root(id(operation.output))
    return lambda x: root(id(x))


def why_not(operation) -> str | None:
    """Why an operation of a network has no int8 form here; None if it has one."""
    name = kind(operation)
    if name not in MAKERS | FIXED | CARRIERS:
        return f"{name} has no int8 form"
    if reason := _why_not_any(operation):
        return reason
    rank = len(operation.output.shape)
    if name == "Dense" and rank != 2:
        return f"its input has {rank} dimensions, not 2"
    if name in {"BatchNormalization", "Rescaling"} and rank not in (2, 4):
        return f"its input has {rank} dimensions, not 2 or 4"
    if name == "BatchNormalization" and operation.axis not in (-1, rank - 1):
        return f"it norms axis {operation.axis}, not the last one"
    if name == "Pad" and operation.mode != "constant":
        return f"its mode is {operation.mode!r}, not 'constant'"
    if name == "GetItem" and stride_of(operation) == 1 and not _is_plain(operation):
        return "it is a slice with a step, or an index"
    return None


def why_not_mixed(operation) -> str | None:
    """Why an operation cannot be a part of a network whose kernels alone are int8; None if it can."""
    if kind(operation) in KERNELS:
        return _why_not_any(operation)
    return f"{kind(operation)} has a kernel without an int8 form" if hasattr(operation, "kernel") else None


def _why_not_any(operation) -> str | None:
    """What of an operation of any kind has no int8 form."""
    if len(operation._inbound_nodes) > 1:
        return "it is used more than once"
    if getattr(operation, "data_format", None) == "channels_first":
        return "its data_format is channels_first"
    if kind(operation) in KERNELS and operation.activation.__name__ not in CLAMPS:
        return f"its activation {operation.activation.__name__} is not a layer of its own"
    return None
