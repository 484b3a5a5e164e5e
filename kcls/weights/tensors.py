"""What an open file of named tensors is, whichever format it has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

# Tensors that files of some versions hold, and that do not belong to the learnt or measured ones.
BUFFERS = ("num_batches_tracked", "relative_position_index", "attn_mask", "n_averaged")
# What programs that wrap a network put before all its names.
PREFIXES = ("module.", "model.", "ema.", "backbone.", "_orig_mod.")


@dataclass(frozen=True)
class TensorFile:
    """An open file of named tensors.

    Attributes:
        shapes: name -> shape.
        get: name -> the tensor, read now.
        notes: what was looked through to find them, for people.
    """

    shapes: Mapping[str, tuple[int, ...]]
    get: Callable[[str], np.ndarray]
    notes: tuple[str, ...] = ()

    def unwrapped(self) -> "TensorFile":
        """The learnt and measured tensors alone, without the prefixes that all their names have."""
        names = {name: name for name in self.shapes if not name.endswith(BUFFERS)}
        removed = ""
        while prefix := next((p for p in PREFIXES if names and all(name.startswith(p) for name in names)), None):
            names = {name.removeprefix(prefix): whole for name, whole in names.items()}
            removed += prefix
        return TensorFile(
            {name: self.shapes[whole] for name, whole in names.items()},
            lambda name: self.get(names[name]),
            (*self.notes, f"without the prefix {removed!r}") if removed else self.notes,
        )
