"""Evaluation: how good a run is on labelled images. ``evaluate`` is the door."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kcls.evaluation.entry import evaluate

__all__ = ["evaluate"]


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        from kcls.backend import require_tensorflow

        require_tensorflow()
        from kcls.evaluation.entry import evaluate

        return evaluate
    raise AttributeError(f"module 'kcls.evaluation' has no attribute {name!r}")
