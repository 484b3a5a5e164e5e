"""How equal two implementations are, said, recorded and required."""

import fcntl
import json
import os

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


def compare(name: str, ours: np.ndarray, theirs: np.ndarray, reference: str, tolerance: float) -> float:
    """The largest difference in deviations of the logits, printed; fails above ``tolerance``."""
    assert ours.shape == theirs.shape
    assert np.isfinite(theirs).all()
    spread = theirs.std()
    assert (theirs[0] - theirs[1]).std() > 1e-3 * spread, "the logits do not depend on the image"
    difference = float(np.abs(ours - theirs).max() / spread)
    print(f"\nPARITY {name} with {reference}: off by {difference:.1e} deviations of the logits")
    assert difference <= tolerance
    return difference


def report(name: str, ours: np.ndarray, theirs: np.ndarray, reference: str, tolerance: float) -> None:
    """Compares; if KCLS_RECORD_PARITY names a file, the difference is written there, for the catalogue."""
    difference = compare(name, ours, theirs, reference, tolerance)
    if path := os.environ.get("KCLS_RECORD_PARITY"):
        with open(path, "a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # tests may run in several processes
            file.seek(0)
            record = json.loads(file.read() or "{}")
            record[name] = {"reference": reference, "difference": float(f"{difference:.1e}")}
            lines = [f"{json.dumps(key)}: {json.dumps(record[key])}" for key in sorted(record)]
            file.truncate(0)
            file.write("{\n" + ",\n".join(lines) + "\n}\n")
