"""Export: from a finished run to files that run without kcls. ``export`` is the door."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kcls.exporting.entry import export

__all__ = ["export"]


def __getattr__(name: str) -> Any:
    if name == "export":
        from kcls.backend import require_tensorflow

        require_tensorflow()
        from kcls.exporting.entry import export

        return export
    raise AttributeError(f"module 'kcls.exporting' has no attribute {name!r}")
