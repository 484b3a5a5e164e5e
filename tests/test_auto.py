"""``quantize: auto``: the fastest of the smallest kind that is good enough, and what is told when nothing is."""

import csv
import json
import shutil

import keras
import numpy as np
import pytest
from tiny import images, jitter, logits

import kcls
from kcls.artifact import open_keras
from kcls.data.archive import add_config
from kcls.errors import GateError, RecipeError
from kcls.exporting import auto
from kcls.exporting.auto import Trial, choose
from kcls.exporting.gate import paired_interval
from kcls.exporting.sensitivity import Sensitivity, measure_sensitivity
from kcls.section import size_in_bytes


@pytest.fixture(scope="module")
def spoilt(trained, tmp_path_factory):
    """A run whose first unit has a channel of huge values that nothing reads: its range leaves no steps for others."""
    folder = tmp_path_factory.mktemp("spoilt") / "run"
    shutil.copytree(trained.path, folder)
    classifier = open_keras(trained.model_file)
    model = classifier.model
    norm, after = model.get_layer("stage1_unit1_1_norm"), model.get_layer("stage1_unit1_2_conv")
    norm.beta.assign(norm.beta.numpy() + np.array([300, 0, 0, 0], "float32"))
    kernel = after.kernel.numpy()
    kernel[:, :, 0] = 0
    after.kernel.assign(kernel)
    model.save(folder / "model.keras")
    add_config(folder / "model.keras", classifier.class_names, classifier.preprocess)
    return kcls.Run(folder)


def test_a_file_that_is_ruined_by_int8_is_refused_with_the_images_it_gets_wrong(spoilt, cli):
    done = cli("export", spoilt.path, "--tflite", "--quantize", "int8")
    assert done.code == 4
    assert "min_agreement asks for" in done.err and "other answers: digits-test" in done.err and " more" in done.err
    assert not list(spoilt.path.rglob("*_int8.tflite"))


def test_the_layers_that_int8_ruins_are_found_and_kept_in_float(spoilt, cli, monkeypatch):
    # The converter leaves kernels as small as these in float in a dynamic file, which is good then.
    monkeypatch.setattr(auto, "KINDS", (("int8", "mixed"), *auto.KINDS[1:]))
    done = cli("export", spoilt.path, "--tflite", "--quantize", "auto", "--min-agreement", 0.97, "--json")
    assert done.code == 0, done.err
    (report,) = json.loads(done.out)["exports"]
    tried = [(row["quantize"], row.get("layers_in_float"), row["refused"] is None) for row in report["tried"]]
    assert tried[:3] == [("int8", None, False), ("mixed", None, False), ("mixed", 1, False)]
    assert tried[-1] in [("mixed", 2, True), ("mixed", 4, True)]
    assert {row["split"] for row in report["tried"]} == {"val"} and report["split"] == "test"
    assert report["quantize"] == "mixed" and report["layers_in_float"] <= 4 and report["agreement"] >= 0.97
    assert "quantize_aware: true" in report["advice"]
    with open(spoilt.path / "export" / "sensitivity.csv") as file:
        layers = [row["layer"] for row in csv.DictReader(file)]
    assert {*layers[:4]} >= {"stage1_unit1_1_conv", "stage1_unit1_2_conv"}
    assert (spoilt.path / "export" / "sensitivity.png").stat().st_size > 5000


def test_nothing_that_is_small_enough_ends_in_4_with_all_that_was_tried(trained, cli):
    done = cli("export", trained.path, "--tflite", "--quantize", "auto", "--max-size", "10kB")
    assert done.code == 4
    for name in ("int8", "mixed", "dynamic", "float16", "none"):
        assert f"{name}: the file has" in done.err and "max_size allows 10,000" in done.err
    assert "layers" not in done.err and "quantize_aware" not in done.err  # neither makes a file smaller
    done = cli("export", trained.path, "--tflite", "--max-latency", "0.0001ms")
    assert done.code == 4 and "max_latency allows 0.0001 ms" in done.err


def trials(monkeypatch, trained, **good):
    """What ``choose`` tries and takes if the ways in ``good`` are good enough and take so many milliseconds."""
    tried = []

    def try_(job, quantize, in_float=()):
        name = f"{quantize}{len(in_float) or ''}"
        tried.append(name)
        refused = None if name in good else "no"
        return Trial(quantize, in_float, {"latency_ms": good.get(name, 0.0), "agreement": 0.5}, refused)

    layers = [Sensitivity(f"layer{i}", f"tensor{i}", 1 / (i + 1)) for i in range(9)]
    monkeypatch.setattr(auto, "_try", try_)
    monkeypatch.setattr(auto, "measure_sensitivity", lambda *a: layers)
    monkeypatch.setattr(auto, "write_sensitivity", lambda *a: None)
    job = auto.Job(open_keras(trained.model_file), trained.path, None, None, None, Squares())
    monkeypatch.setattr(auto.Job, "calibration", [])
    choice = choose(job)
    return tried, choice


class Squares:
    """No images."""


EIGHT_BITS = ["int8", "mixed", "dynamic"]


def test_the_fastest_of_the_smallest_kind_is_taken(monkeypatch, trained):
    tried, choice = trials(monkeypatch, trained, int8=2.0, dynamic=1.0, float16=0.1)
    assert tried == EIGHT_BITS and choice.quantize == "dynamic" and not choice.report.get("advice")


def test_more_and_more_layers_stay_in_float_before_more_bits_are_taken(monkeypatch, trained):
    tried, choice = trials(monkeypatch, trained, mixed4=3.0, float16=0.1)
    assert tried == [*EIGHT_BITS, "mixed1", "mixed2", "mixed4"]
    assert choice.in_float == ("tensor0", "tensor1", "tensor2", "tensor3")
    tried, choice = trials(monkeypatch, trained, float16=0.1)
    assert tried == [*EIGHT_BITS, "mixed1", "mixed2", "mixed4", "float16"] and choice.quantize == "float16"
    with pytest.raises(GateError, match=r"(?s)nothing is as good .* int8: no\n.* none: no\nint8 may be as good"):
        trials(monkeypatch, trained)


def test_the_layers_around_a_channel_of_huge_values_are_the_most_sensitive():
    image = x = keras.Input((8, 8, 3))
    for name in "abcd":
        x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name=name)(x)
    model = jitter(keras.Model(image, keras.layers.Dense(5, name="head")(keras.layers.GlobalAveragePooling2D()(x))))
    squares = images(model, 8).round()
    head, scale = model.get_layer("head"), logits(model, squares).std()  # so that no answer is sure
    head.set_weights([weight / scale for weight in head.get_weights()])
    model.get_layer("b").bias.assign([1e5] + [0] * 7)
    kernel = model.get_layer("c").kernel
    kernel.assign(kernel.numpy() * (np.arange(8) > 0)[:, np.newaxis])
    found = measure_sensitivity(model, 8, list(squares.astype("uint8")))
    assert sorted(each.layer for each in found) == ["a", "b", "c", "d", "head"]
    assert {each.layer for each in found[:2]} == {"b", "c"}
    assert found[1].divergence > 10 * found[2].divergence


def test_the_interval_of_a_drop_is_that_of_the_pairs():
    before, after = np.ones(100, bool), np.ones(100, bool)
    after[:10], before[10:12] = False, False
    low, high = paired_interval(before, after)  # 10 lost, 2 won: by hand, (8 +- 1.96 sqrt(13 - 64 / 102)) / 102
    assert (low, high) == pytest.approx((0.010843, 0.146020), abs=1e-5)
    assert paired_interval(before, before)[0] < 0 < paired_interval(before, before)[1]


@pytest.mark.parametrize(
    ("text", "size"),
    [("4MB", 4_000_000), ("1.5 MiB", 1_572_864), ("300kB", 300_000), ("12", 12), (7, 7), ("2gib", 2**31)],
)
def test_a_size_is_read_as_people_write_it(text, size):
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["4X", "MB", "", "-3", "0", True, 1.5, None, "1e3"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="expected a size such as 4MB"):
        size_in_bytes(text)


def test_options_of_auto_that_make_no_sense_are_refused(trained):
    with pytest.raises(RecipeError, match="max_size has no effect without format tflite"):
        kcls.export(trained, ["saved_model"], max_size=5)
    with pytest.raises(RecipeError, match="max_latency_ms must be above 0, not 0"):
        kcls.export(trained, ["tflite"], max_latency_ms=0)
    with pytest.raises(RecipeError, match="quantize 'auto' has no effect without format tflite"):
        kcls.export(trained, ["saved_model"], quantize="auto")
