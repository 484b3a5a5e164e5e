"""The formats of exported files, a row each: how one is named, written, opened and recognised, and its quantizations.

Recipes, the command line, the export, its gate and ``open_artifact`` read this table. It imports nothing heavy: what
writes and opens a format is named here and loaded when it is used.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

FormatName = Literal["saved_model", "tflite", "web"]
QuantizationName = Literal["none", "float16", "dynamic", "mixed", "int8", "int16x8"]
QuantizeName = QuantizationName | Literal["auto"]
"""What may be asked for: ``auto`` chooses a quantization."""

PAGE_MODEL = "model.tflite"
"""The TFLite file in the folder of a web page."""


@dataclass(frozen=True)
class Quantization:
    """One way of storing the weights: its name in a file's name, and whether training images set its ranges."""

    label: str
    calibrated: bool = False


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: in a recipe.
        title: what it is, for people.
        file_name: of the file or folder in ``export/``, made with ``model`` and ``quantize``.
        recognises: whether a path is of this format, by its name or by what is in the folder.
        opener: ``module:name`` of its ``Classifier``, called with the path.
        alone: arguments of the opener for a latency that can be compared: one thread.
        writer: ``module:name`` of ``write(model, class_names, preprocess, path)``; a format with quantizations takes
            ``quantize`` and ``calibration`` too.
        quantizations: by their names in a recipe; ``none`` is float32. Empty if there is no choice.
    """

    name: FormatName
    title: str
    file_name: str
    recognises: Callable[[Path], bool]
    opener: str
    writer: str
    alone: Mapping[str, Any] = field(default_factory=dict)
    quantizations: Mapping[QuantizationName, Quantization] = field(default_factory=dict)

    @property
    def flag(self) -> str:
        """The option of ``kcls export`` that asks for it."""
        return f"--{self.name.replace('_', '-')}"

    def open(self, path: Path, **options: Any) -> Any:
        """The file as a ``Classifier``."""
        return _load(self.opener)(path, **options)

    def write(self, *arguments: Any, **options: Any) -> None:
        """Calls the writer."""
        _load(self.writer)(*arguments, **options)

    def name_of(self, model: str, quantize: QuantizationName) -> str:
        """The name of the file that holds ``model``."""
        label = self.quantizations[quantize].label if self.quantizations else ""
        return self.file_name.format(model=model, quantize=label)


def _load(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


_ROWS = (
    Format(
        name="saved_model",
        title="SavedModel",
        file_name="saved_model",
        recognises=lambda path: (path / "saved_model.pb").is_file(),
        opener="kcls.artifact:SavedModelClassifier",
        writer="kcls.exporting.saved_model:write_saved_model",
    ),
    Format(
        name="tflite",
        title="TFLite file",
        file_name="{model}_{quantize}.tflite",
        recognises=lambda path: path.suffix == ".tflite",
        opener="kcls.artifact:TFLiteClassifier",
        alone={"threads": 1},
        writer="kcls.exporting.tflite:write_tflite",
        quantizations={
            "none": Quantization("float32"),
            "float16": Quantization("float16"),
            "dynamic": Quantization("dynamic_int8"),
            "mixed": Quantization("mixed_int8", calibrated=True),
            "int8": Quantization("int8", calibrated=True),
            "int16x8": Quantization("int16x8", calibrated=True),
        },
    ),
)

_WEB_PAGE = replace(  # a TFLite file with a page around it, so what is not named here is as there
    _ROWS[1],
    name="web",
    title="web page",
    file_name="{model}_{quantize}_web",
    recognises=lambda path: (path / PAGE_MODEL).is_file() and (path / "index.html").is_file(),
    opener="kcls.artifact:open_web_page",
    writer="kcls.exporting.web:write_web_page",
)

FORMATS: dict[FormatName, Format] = {row.name: row for row in (*_ROWS, _WEB_PAGE)}

QUANTIZATIONS: dict[QuantizationName, Quantization] = {
    name: row for format in FORMATS.values() for name, row in format.quantizations.items()
}
"""Of all formats together."""

QUANTIZED = tuple(name for name, format in FORMATS.items() if format.quantizations)
"""The formats that have a choice of quantizations."""
