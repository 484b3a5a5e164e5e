"""Rewriting of a TFLite file: what the converter leaves undone."""

from collections.abc import Mapping

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

Ends = tuple[float, float]
KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_FLOAT, _INT8 = schema.TensorType.FLOAT32, schema.TensorType.INT8
_NAMES = {number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()}


class Rewriting:
    """A file of one graph, to be changed.

    Args:
        contents: of the file.
    """

    def __init__(self, contents: bytes):
        self._contents = contents
        self._tree = schema.ModelT.InitFromPackedBuf(bytearray(contents), 0)
        (self._graph,) = self._tree.subgraphs

    def outputs(self, kinds: tuple[str, ...]) -> list[str]:
        """The names of the outputs of the operators of some kinds, in the order of computation."""
        found = [operator for operator in self._graph.operators if self._kind(operator) in kinds]
        return [self._graph.tensors[operator.outputs[0]].name.decode() for operator in found]

    def set_ranges(self, ranges: Mapping[str, tuple[Ends, Ends]]) -> bytes:
        """A calibrated file with other ranges of what some kernels take and give, and with none of anything else.

        Args:
            ranges: the two of a kernel, by the name of its output.
        """
        tensors = self._graph.tensors
        for tensor in tensors:
            if tensor.quantization:
                tensor.quantization.min = tensor.quantization.max = None
        for operator in self._graph.operators:
            ends = ranges.get(tensors[operator.outputs[0]].name.decode(), ())
            for index, (low, high) in zip((operator.inputs[0], operator.outputs[0]), ends, strict=False):
                tensors[index].quantization.min, tensors[index].quantization.max = [low], [high]
        return self._packed()

    def float_depthwise(self) -> bytes:
        """The file, of dynamic int8, with depthwise convolutions that compute in float, from the same int8 kernels.

        The delegate has no depthwise convolution of float images and int8 kernels: left as the converter makes them, a
        MobileNet falls into 16 graphs and is slower than in float.
        """

        def dynamic(operator) -> bool:
            return self._kind(operator) == "DEPTHWISE_CONV_2D" and self._types(operator.inputs[:2]) == [_FLOAT, _INT8]

        for operator in filter(dynamic, list(self._graph.operators)):
            self._take_in_float(operator, 1)
        return self._packed()

    def _kind(self, operator) -> str:
        return _NAMES[self._tree.operatorCodes[operator.opcodeIndex].builtinCode]

    def _types(self, tensors) -> list[int | None]:
        """The types of tensors; None of one that is left out."""
        return [self._graph.tensors[index].type if index >= 0 else None for index in tensors]

    def _take_in_float(self, operator, place: int) -> None:
        """Lets an operator take an input in float."""
        step, given = schema.OperatorT(), operator.inputs[place]
        operator.inputs[place] = self._float_like(given)
        step.opcodeIndex = self._code(schema.BuiltinOperator.DEQUANTIZE, version=5)  # of a scale a channel
        step.inputs, step.outputs = [given], [operator.inputs[place]]
        self._graph.operators.insert(self._graph.operators.index(operator), step)

    def _float_like(self, index: int) -> int:
        """A new tensor of the shape of another."""
        old, new = self._graph.tensors[index], schema.TensorT()
        new.name, new.shape, new.shapeSignature, new.type = old.name + b"_float", old.shape, old.shapeSignature, _FLOAT
        self._graph.tensors.append(new)
        return len(self._graph.tensors) - 1

    def _code(self, builtin: int, version: int) -> int:
        """The index of a kind of operator of at least a version."""
        for index, code in enumerate(self._tree.operatorCodes):
            if code.builtinCode == builtin and code.version >= version:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = version
        self._tree.operatorCodes.append(code)
        return len(self._tree.operatorCodes) - 1

    def _packed(self) -> bytes:
        builder = flatbuffers.Builder(len(self._contents) + 4096)
        builder.Finish(self._tree.Pack(builder), b"TFL3")
        return bytes(builder.Output())
