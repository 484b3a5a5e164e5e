"""The promise of recipes/digits.yaml: at least 98.5 % on test, int8 within half a point."""

import statistics

import pytest
from conftest import ROOT

import kcls
from kcls.recipe import load_recipe


@pytest.mark.parametrize(
    "seeds", [pytest.param([0], marks=pytest.mark.heavy), pytest.param([0, 1, 2], marks=pytest.mark.full)], ids=len
)
def test_digits_reaches_what_its_recipe_promises(seeds, tmp_path):
    top1, drops = [], []
    for seed in seeds:
        recipe = load_recipe(ROOT / "recipes" / "digits.yaml", [f"train.seed={seed}"])
        run = kcls.train(recipe, out=tmp_path / str(seed))
        (report,) = kcls.export(run, ["tflite"], quantize="int8")
        top1.append(kcls.evaluate(run).summary["top1"])
        drops.append(top1[-1] - report["top1"])
        seconds = sum(row["seconds"] for row in run.history())
        print(f"seed {seed}: top-1 {top1[-1]:.4f}, int8 {report['top1']:.4f}, {seconds:.0f} s of training steps")
    print(f"mean {statistics.mean(top1):.4f}, mean drop {statistics.mean(drops):.4f}")
    assert statistics.mean(top1) >= 0.985
    assert statistics.mean(drops) <= 0.005
