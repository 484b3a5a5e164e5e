"""TFLite metadata: what a model's input and output mean, in the form that Android Studio and MediaPipe read.

Schema: https://github.com/tensorflow/tflite-support, metadata_schema.fbs. The numbers below are its field numbers,
as flatbuffers counts them; associated files lie in a zip archive behind the model.
"""

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

_RGB = 1  # ColorSpaceType
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2  # ContentProperties
_TENSOR_AXIS_LABELS = 2  # AssociatedFileType
_ENTRY = "TFLITE_METADATA"


class _Tables(flatbuffers.Builder):
    """Builds flatbuffer tables bottom up: every argument is made before its table."""

    def text(self, value: str) -> int:
        return self.CreateString(value)

    def floats(self, *values: float) -> int:
        self.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.PrependFloat32(value)
        return self.EndVector()

    def tables(self, *offsets: int) -> int:
        self.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.PrependUOffsetTRelative(offset)
        return self.EndVector()

    def table(self, fields: int, offsets: dict[int, int] | None = None, numbers: dict[int, int] | None = None) -> int:
        self.StartObject(fields)
        for field, offset in (offsets or {}).items():
            self.PrependUOffsetTRelativeSlot(field, offset, 0)
        for field, number in (numbers or {}).items():
            self.PrependInt8Slot(field, number, 0)
        return self.EndObject()


def describe(name: str, description: str, labels_name: str) -> bytes:
    """The metadata of a classifier with one uint8 RGB image in and one score a class out."""
    b = _Tables(1024)
    properties = b.table(2, numbers={0: _RGB})
    content = b.table(3, {1: properties}, {0: _IMAGE_PROPERTIES})
    stats = b.table(2, {0: b.floats(255.0), 1: b.floats(0.0)})  # largest, smallest
    words = b.text("image"), b.text("RGB image, 0 to 255. Its normalization is inside the model.")
    image = b.table(7, {0: words[0], 1: words[1], 3: content, 5: stats})

    words = b.text(labels_name), b.text("Class names, one a line, in the order of the scores.")
    labels = b.table(4, {0: words[0], 1: words[1]}, {2: _TENSOR_AXIS_LABELS})
    content = b.table(3, {1: b.table(0)}, {0: _FEATURE_PROPERTIES})
    stats = b.table(2, {0: b.floats(1.0), 1: b.floats(0.0)})
    words = b.text("score"), b.text("Probability of each class.")
    score = b.table(7, {0: words[0], 1: words[1], 3: content, 5: stats, 6: b.tables(labels)})

    subgraph = b.table(6, {2: b.tables(image), 3: b.tables(score)})
    fields = {
        0: b.text(name),
        1: b.text(description),
        2: b.text("1"),
        3: b.tables(subgraph),
        7: b.text("1.0.0"),
    }
    b.Finish(b.table(8, fields), b"M001")
    return bytes(b.Output())


def add_metadata(model: bytes, metadata: bytes) -> bytes:
    """A TFLite model with ``metadata`` inside."""
    tree = schema.ModelT.InitFromPackedBuf(bytearray(model), 0)
    buffer = schema.BufferT()
    buffer.data = bytearray(metadata)
    tree.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = _ENTRY, len(tree.buffers) - 1
    tree.metadata = [*(tree.metadata or []), entry]
    builder = flatbuffers.Builder(len(model) + 4096)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())
