"""From an ordinary network to the one that is trained for int8, and back."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras
from keras import layers

from kcls.backend import require_tensorflow
from kcls.errors import KclsError, near
from kcls.quantization.graph import (
    FACTORS,
    KERNELS,
    Graph,
    inputs_of,
    kind,
    places,
    stride_of,
    why_not,
    why_not_mixed,
)
from kcls.quantization.layers import (
    DepthwiseAveragePooling2D,
    DepthwiseNormalization,
    DepthwiseRescaling,
    EdgeActivation,
    EdgeAdd,
    FakeQuantConv2D,
    FakeQuantDense,
    FakeQuantDepthwiseConv2D,
    Subsample,
    Unfused,
    WithBits,
)
from kcls.quantization.ranges import FixedRange, Range, is_quantization_aware

# What has a kernel to learn; and what only takes another form, with a kernel that follows from its numbers.
LEARNED: dict[type, type[WithBits]] = {
    layers.Conv2D: FakeQuantConv2D,
    layers.DepthwiseConv2D: FakeQuantDepthwiseConv2D,
    layers.Dense: FakeQuantDense,
}
FORMS: dict[type, type[WithBits]] = {
    layers.BatchNormalization: DepthwiseNormalization,
    layers.Rescaling: DepthwiseRescaling,
    layers.AveragePooling2D: DepthwiseAveragePooling2D,
    layers.Activation: EdgeActivation,
}
PLAIN: dict[type, Any] = {form: layer for layer, form in {**LEARNED, **FORMS, layers.Add: EdgeAdd}.items()}
Ends = tuple[float, float]
GATES = {"sigmoid", "silu", "hard_sigmoid", "hard_silu"}


def quantize_aware(
    model: keras.Model, bits: int | Mapping[str, int] = 8, quantize: Literal["int8", "mixed"] = "int8"
) -> keras.Model:
    """A network that computes as the int8 file of ``model`` will, to be trained further: images -> logits.

    A flat functional model with the layers and the weights of ``model``, in float32, in which kernels and activations
    are rounded to the steps of int8 and gradients pass straight through (Jacob et al., arXiv:1712.05877). Its ranges
    come from the first steps of its training, or from ``calibrate``; until then, its answers are NaN.

    Args:
        model: a flat functional classifier, images 0..255 -> logits, such as one of ``create_model``.
        bits: of the kernels, 8 or, with ``int8``, 4; or those of some layers by their names, the others having 8. A
            kernel of 4 takes half the space, and the XNNPACK delegate of LiteRT leaves its convolution to slower code.
        quantize: of the file that it is for: ``int8``, all of a network of convolutions and batch norms; or ``mixed``,
            the convolutions and dense layers of any network, such as a transformer.

    Raises:
        KclsError: a layer has no int8 form (the message says which and why), or ``bits`` does not fit.
    """
    require_tensorflow()  # and Keras on it
    if is_quantization_aware(model):
        raise KclsError(f"{model.name} is quantization-aware already")
    graph = Graph(model)
    if quantize == "mixed":
        _check(model, graph, why_not_mixed, "export it with quantize dynamic or float16 instead")
        if bits != 8:
            raise KclsError(f"the kernels of quantize mixed have 8 bits, not {bits}")
        return _mixed(model, graph)
    _check(model, graph, why_not, "quantize_aware mixed is for such networks")
    return _int8(model, graph, _bits(model, bits))


def _int8(model: keras.Model, graph: Graph, bits_of: Mapping[str, int]) -> keras.Model:
    """The clone in which everything is rounded."""
    behind = places(graph)
    ranges: dict[str, Range] = {}
    pixels = FixedRange(0.0, 255.0, dtype="float32", name="pixels_range")

    def clone(operation):
        form = LEARNED.get(type(operation))
        if form:
            bits = bits_of.get(operation.name, 8)
            return form.from_config({**operation.get_config(), "bits": bits, "dtype": "float32"})
        if type(operation) is layers.Add:
            return EdgeAdd.from_config({**operation.get_config(), "dtype": "float32"})
        return _edge_form(graph, operation, bits=8, dtype="float32") or _copy(operation, dtype="float32")

    def call(operation, *args, **kwargs):
        name = operation.name
        if name in graph.first:  # a byte of the image is its quantized value
            args = (pixels(args[0]), *args[1:])
        y = _call(operation, *args, **kwargs)
        if name not in behind:
            return y
        place = behind[name]
        if place.range not in ranges:
            ranges[place.range] = Range(place.count, dtype="float32", name=place.range)
        return ranges[place.range](y, number=place.number)

    return _clone(model, clone, call)


def _mixed(model: keras.Model, graph: Graph) -> keras.Model:
    """The clone in which what the operators with a kernel take and give is rounded, and nothing else."""
    ends, taken = graph.ends(), _taken(graph)

    def clone(operation):
        form = LEARNED.get(type(operation))
        if not form:
            return _copy(operation, dtype="float32")
        return form.from_config({**operation.get_config(), "dtype": "float32"})

    def call(operation, *args, **kwargs):
        name = operation.name
        if name in taken and taken[name] not in ends:
            args = (Range(dtype="float32", name=_range_before(name, taken, ends))(args[0]), *args[1:])
        y = operation(*args, **kwargs)
        return Range(dtype="float32", name=f"{name}_range")(y) if name in ends else y

    return _clone(model, clone, call)


def _range_before(kernel: str, taken: Mapping[str, str], ends: Mapping[str, str]) -> str:
    """The name of the range of what a kernel takes: that of the kernel before it, or its own."""
    return f"{taken[kernel]}_range" if taken[kernel] in ends else f"{kernel}_input_range"


def _taken(graph: Graph) -> dict[str, str]:
    """The operations with a kernel -> those that make what they take."""
    makers = {op.name: _maker(op) for op in graph.operations if kind(op) in KERNELS}
    return {name: "image" if isinstance(op, layers.InputLayer) else op.name for name, op in makers.items()}


def _maker(operation):
    """What makes the first tensor that an operation takes, but for what does something in training only."""
    maker = inputs_of(operation)[0]._keras_history.operation
    return _maker(maker) if kind(maker) in {"Dropout", "DropPath", "Identity"} else maker


def mixed_form(model: keras.Model) -> tuple[keras.Model, dict[str, tuple[Ends, Ends]]]:
    """What is exported of a model of ``quantize_aware`` for ``mixed``.

    Returns:
        The ordinary network, with a mark before each kernel and between a kernel and factors; and what each layer with
        a kernel takes and gives, by its name.
    """
    network = plain(model)
    graph = Graph(network)
    ends, taken = graph.ends(), _taken(graph)
    known = {layer.name: layer.numbers() for layer in model.layers if isinstance(layer, Range)}
    ranges = {
        kernel: (known[_range_before(kernel, taken, ends)], known[f"{last}_range"]) for last, kernel in ends.items()
    }
    apart = {op.name for op in graph.operations if kind(op) in FACTORS and _maker(op).name in ends}

    def clone(operation):
        stride = stride_of(operation)
        return Subsample(stride, bits=None, name=operation.name) if stride > 1 else _copy(operation)

    def call(operation, *args, **kwargs):
        name = operation.name
        if name in apart or (name in taken and taken[name] not in ends):
            args = (Unfused(name=f"{name}_input")(args[0]), *args[1:])
        return _call(operation, *args, **kwargs)

    return _clone(network, clone, call), ranges


def can_be_aware(model: keras.Model, quantize: str) -> bool:
    """Whether ``quantize_aware`` takes a model for ``int8`` or ``mixed``."""
    why = why_not_mixed if quantize == "mixed" else why_not
    return not is_quantization_aware(model) and not any(map(why, Graph(model).operations))


def plain(model: keras.Model) -> keras.Model:
    """The ordinary network with the layers and the weights of a model of ``quantize_aware``, in float32.

    Its answers are not rounded: it is for formats other than int8, and for training on.

    Raises:
        KclsError: the model is not quantization-aware.
    """
    if not is_quantization_aware(model):
        raise KclsError(f"{model.name} is not quantization-aware: it is an ordinary network already")

    def clone(operation):
        if type(operation) not in PLAIN:
            return _copy(operation)
        config = {key: value for key, value in operation.get_config().items() if key != "bits"}
        return PLAIN[type(operation)].from_config(config)

    def call(operation, *args, **kwargs):
        if isinstance(operation, (Range, FixedRange)):
            return args[0]
        if isinstance(operation, Subsample):
            return args[0][:, :: operation.stride, :: operation.stride]
        return operation(*args, **kwargs)

    return _clone(model, clone, call)


def edge_form(model: keras.Model) -> keras.Model:
    """The same network without what a delegate has in float only; for quantization after training.

    The answers differ by rounding, and by 2e-5 of the input of each hard swish. A network that has nothing to change is
    returned as it is.
    """
    graph = Graph(model)
    kept = {"Rescaling", "sigmoid", "silu"}  # the delegate has them
    forms = {op.name: _edge_form(graph, op, bits=None) for op in graph.operations if kind(op) not in kept}
    if not any(forms.values()):
        return model
    return _clone(model, lambda operation: forms.get(operation.name) or _copy(operation), _call)


def _edge_form(graph: Graph, operation, bits: int | None, **config: Any) -> WithBits | None:
    """The layer that an operation becomes whose kernel is not learnt; None if it stays what it is."""
    if why_not(operation):
        return None
    stride = stride_of(operation)
    if stride > 1:
        return Subsample(stride, bits=bits, name=operation.name, **config)
    form = FORMS.get(type(operation))
    if form is None:
        return None
    if form is DepthwiseNormalization and not graph.stands_alone(operation):
        return None
    if form is DepthwiseAveragePooling2D and operation.padding == "same":  # means of fewer pixels at the edge
        return None
    if form is EdgeActivation and kind(operation) not in GATES:
        return None
    return form.from_config({**operation.get_config(), "bits": bits, **config})


def _copy(operation, **config: Any):
    """An operation like the one of another model."""
    changes = config if isinstance(operation, layers.Layer) else {}
    return type(operation).from_config({**operation.get_config(), **changes})


def _call(operation, *args, **kwargs):
    """What an operation makes of its arguments; those of a slice are a ``Subsample``'s own."""
    return operation(args[0]) if isinstance(operation, Subsample) else operation(*args, **kwargs)


def _clone(model: keras.Model, clone, call) -> keras.Model:
    """``keras.models.clone_model``, with the weights."""
    new = keras.models.clone_model(model, clone_function=clone, call_function=call)
    known = {layer.name: layer for layer in new.layers}
    for layer in model.layers:
        if layer.weights and layer.name in known:  # all but ranges are
            known[layer.name].set_weights(layer.get_weights())
    return new


def _check(model: keras.Model, graph: Graph, why: Callable[[Any], str | None], instead: str) -> None:
    """Refuses a model with a layer that has no int8 form."""
    reasons = [(operation.name, why(operation)) for operation in graph.operations]
    refused = [f"{name} ({reason})" for name, reason in reasons if reason]
    if refused:
        more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise KclsError(
            f"{model.name} cannot be made quantization-aware because of {', '.join(refused[:3])}{more}; {instead}"
        )


def _bits(model: keras.Model, bits: int | Mapping[str, int]) -> dict[str, int]:
    """The bits of each layer with a kernel of its own."""
    names = [layer.name for layer in model.layers if type(layer) in LEARNED]
    chosen = dict.fromkeys(names, bits) if isinstance(bits, int) else dict(bits)
    for name, number in chosen.items():
        if name not in names:
            raise KclsError(f"{model.name} has no layer {name!r} with a kernel to quantize{near(name, names)}")
        if number not in (4, 8):
            raise KclsError(f"a kernel is quantized to 4 or 8 bits, which a file can hold, not {number} ({name})")
    return chosen
