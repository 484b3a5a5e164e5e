"""The order of the weights is public: published and saved weights are stored by it.

A change that was meant: ``PYTHONPATH=. python tests/test_models_order.py`` writes golden_order.json anew.
"""

import hashlib
import json
from pathlib import Path

from tiny import TINY, build, every_row, shared

GOLDEN = Path(__file__).with_name("golden_order.json")


def order(model):
    """Number, ends and fingerprint of the lines "path shape" of all weights, in the order of the graph."""
    lines = [f"{weight.path} {tuple(weight.shape)}" for weight in model.weights]
    digest = hashlib.sha1("\n".join(lines).encode()).hexdigest()
    return {"weights": len(lines), "first": lines[0], "last": lines[-1], "sha1": digest}


@every_row
def test_weight_order_names_and_shapes_are_frozen(label):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert order(shared(label)) == golden[label], f"if meant: PYTHONPATH=. python tests/{Path(__file__).name}"


def test_golden_file_has_no_stale_rows():
    assert set(json.loads(GOLDEN.read_text(encoding="utf-8"))) == set(TINY)


@every_row
def test_weight_order_does_not_depend_on_what_was_built_before(label):
    assert order(build(label)) == order(shared(label))


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({label: order(shared(label)) for label in TINY}, indent=1) + "\n", encoding="utf-8")
