"""Training: from a recipe to a run. ``train`` is the door."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kcls.training.entry import train

__all__ = ["train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        from kcls.backend import require_tensorflow

        require_tensorflow()
        from kcls.training.entry import train

        return train
    raise AttributeError(f"module 'kcls.training' has no attribute {name!r}")
