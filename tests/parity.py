"""How equal two implementations are, said, recorded and required."""

import json
import os
from pathlib import Path

import numpy as np
import pytest


def import_timm():
    """timm; skips the test where it is not installed."""
    torch = pytest.importorskip("torch")
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # a torchvision built for another torch: timm needs only that it can be imported
        library = torch.library.Library("torchvision", "FRAGMENT")
        for op in ("nms", "qnms"):
            library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except ImportError:
        pass
    return pytest.importorskip("timm")


def report(name: str, ours: np.ndarray, theirs: np.ndarray, reference: str, tolerance: float) -> None:
    """Prints the largest difference in deviations of the logits, and fails above ``tolerance``.

    If KCLS_RECORD_PARITY names a file, the difference is written there, for the catalogue.
    """
    assert ours.shape == theirs.shape
    assert np.isfinite(theirs).all()
    spread = theirs.std()
    assert (theirs[0] - theirs[1]).std() > 1e-3 * spread, "the logits do not depend on the image"
    difference = float(np.abs(ours - theirs).max() / spread)
    print(f"\nPARITY {name} with {reference}: off by {difference:.1e} deviations of the logits")
    assert difference <= tolerance
    if os.environ.get("KCLS_RECORD_PARITY"):
        file = Path(os.environ["KCLS_RECORD_PARITY"])
        record = json.loads(file.read_text()) if file.is_file() else {}
        record[name] = {"reference": reference, "difference": float(f"{difference:.1e}")}
        lines = [f"{json.dumps(key)}: {json.dumps(record[key])}" for key in sorted(record)]
        file.write_text("{\n" + ",\n".join(lines) + "\n}\n")
