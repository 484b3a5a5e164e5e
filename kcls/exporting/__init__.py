"""Export: from a finished run to files that run without kcls. ``export`` is the door."""

from typing import TYPE_CHECKING

from kcls.backend import door

if TYPE_CHECKING:
    from kcls.exporting.entry import export

__all__ = ["export"]

__getattr__ = door("kcls.exporting.entry", "export")
