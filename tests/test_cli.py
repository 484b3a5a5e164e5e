"""The command line: results on stdout, the rest on stderr, and exit codes that a script can use."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kcls.formats import FORMATS
from kcls.recipe import load_recipe

REFERENCE = json.loads((Path(__file__).parent / "reference.json").read_text())


@pytest.fixture(scope="module")
def digit(tmp_path_factory):
    """An image file of a digit."""
    from kcls.data.builders.digits import FILE

    path = tmp_path_factory.mktemp("digit") / "seven.png"
    with np.load(FILE) as file:
        Image.fromarray(file["images"][7] * np.uint8(15)).save(path)
    return path


@pytest.fixture
def newest(trained, tmp_path, monkeypatch):
    """A copy of the trained run as the newest one."""
    monkeypatch.setenv("KCLS_RUNS", str(tmp_path / "runs"))
    shutil.copytree(trained.path, tmp_path / "runs" / "tiny" / "1", ignore=shutil.ignore_patterns("export"))
    return tmp_path / "runs" / "tiny" / "1"


@pytest.mark.heavy
def test_train_evaluates_and_exports_as_the_recipe_says(cli, tiny_recipe, tmp_path):
    tiny_recipe.write_text(tiny_recipe.read_text() + "export: {formats: [tflite], quantize: float16}\n")
    done = cli("train", tiny_recipe, "--out", tmp_path / "run", "--set", "train.epochs=2", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["run"] == str(tmp_path / "run") and result["evaluation"]["count"] == 90
    assert [report["format"] for report in result["exports"]] == ["tflite"]
    assert (tmp_path / "run" / "export" / "resnet20_float16.tflite").is_file()
    assert "epoch   2/2" in done.err and load_recipe(tmp_path / "run" / "recipe.yaml").export


def test_evaluate_prints_one_json_object_and_nothing_else(cli, newest):
    done = cli("evaluate", "--json")
    assert done.code == 0 and len(done.out.splitlines()) == 1
    result = json.loads(done.out)
    assert {"top1", "top5", "loss", "count", "macro_f1", "per_class", "split"} <= result.keys()
    assert 0 <= result["top1"] <= result["top5"] <= 1 and result["count"] == 90


def test_evaluate_prints_a_table_and_the_next_command(cli, newest):
    done = cli("evaluate", newest, "--split", "val")
    assert done.code == 0
    assert done.out.startswith("val: 144 images  loss ") and "precision" in done.out
    assert f"{newest}/evaluation/val" in done.out and done.out.endswith(f"Next: kcls export {newest} --tflite\n")


def test_export_tflite_alone_takes_the_newest_run(cli, newest, digit):
    done = cli("export", "--tflite")
    path = newest / "export" / "resnet20_float32.tflite"
    assert done.code == 0 and done.out.endswith(f"Next: kcls predict {path} IMAGE...\n"), done.err
    assert cli("predict", path, digit).code == 0
    measured = cli("evaluate", path)
    assert measured.code == 0 and measured.out.startswith("test: 90 images  loss ")
    assert f"{newest}/evaluation/test/resnet20_float32" in measured.out
    assert measured.out.endswith(f"Next: kcls predict {path} IMAGE...\n")


def test_export_has_a_flag_for_every_format_and_takes_several_quantizations(cli, monkeypatch):
    asked = {}
    monkeypatch.setattr("kcls.exporting.export", lambda run, formats, **options: asked.update(options, formats=formats))
    cli("export", *(format.flag for format in FORMATS.values()), "--quantize", "none", "--quantize", "int8")
    assert asked["formats"] == list(FORMATS) and asked["quantize"] == ("none", "int8")


def test_predict_prints_a_table_csv_or_json_lines(cli, newest, digit):
    table = cli("predict", digit)
    rows = list(csv.DictReader(io.StringIO(cli("predict", newest, digit, "--csv", "--top-k", "3").out)))
    lines = [json.loads(line) for line in cli("predict", digit, digit, "--json").out.splitlines()]
    assert table.code == 0 and "seven.png" in table.out and "probability" in table.out
    assert [row["rank"] for row in rows] == ["1", "2", "3"] and {row["image"] for row in rows} == {str(digit)}
    assert len(lines) == 2 and lines[0]["predictions"][0]["label"] == rows[0]["label"]
    assert float(rows[0]["probability"]) == pytest.approx(lines[0]["predictions"][0]["probability"], abs=1e-5)


@pytest.mark.parametrize("form", [[], ["--csv"], ["--json"]])
def test_an_unreadable_image_is_named_the_rest_are_done_and_the_code_is_3(cli, newest, digit, tmp_path, form):
    (tmp_path / "zero.png").touch()
    done = cli("predict", tmp_path / "zero.png", digit, *form)
    assert done.code == 3 and "1 image could not be classified" in done.err
    assert "zero.png" in done.out + done.err and "seven.png" in done.out and "0 bytes" in done.out + done.err


def test_a_file_name_is_printed_as_it_is(cli, newest, digit, tmp_path):
    odd = tmp_path / "a[b] :smile: [red]x.png"
    shutil.copy(digit, odd)
    assert str(odd) in cli("predict", odd, "--top-k", "1").out


def test_an_error_of_another_kind_is_one_line_too(cli, newest, monkeypatch):
    monkeypatch.setattr("kcls.prediction.predict", lambda *_, **__: 1 / 0)
    done = cli("predict", "x.png")
    assert done.code == 1 and "Error: ZeroDivisionError: division by zero" in done.err
    assert "KCLS_DEBUG=1 shows where" in done.err and "Traceback" not in done.err


def test_models_prints_the_rows_of_the_reference(cli):
    rows = json.loads(cli("models", "--json").out)
    keys = ["name", "image_size", "num_classes", "options", "trainable_params"]
    printed = [[row[key] for key in keys] for row in rows]
    names = {row["name"] for row in rows}
    expected = [[row[key] for key in keys] for row in REFERENCE if row["name"] in names]
    assert not [row for row in expected if row not in printed]
    assert list(rows[0]) == [*keys, "gmacs", "timm", "parity", "paper"]


def test_models_tells_more_about_one(cli):
    done = cli("models", "resnet50")
    assert "25,557,032" in done.out and "arXiv:1512.03385" in done.out and "Next: kcls train" in done.out
    assert json.loads(cli("models", "resnet50", "--json").out)["trainable_params"] == 25557032
    wrong = cli("models", "resnet500")
    assert wrong.code == 2 and "unknown model 'resnet500'; did you mean 'resnet50'" in wrong.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train"], 2, "Name a recipe or a folder of images, or --resume."),
        (["train", "none.yaml"], 2, "no recipe at none.yaml"),
        (["train", "--resume", "--set", "a.b=1"], 2, "--set needs a recipe."),
        (["train", "x.yaml", "--force"], 2, "--force replaces the run at --out; name it."),
        (["predict", "runs/digits/77", "x.png"], 2, "runs/digits/77 is neither an artifact nor an image"),
        (["trian"], 2, "No such command 'trian'"),
        (["predict"], 2, "Missing argument"),
        (["predict", "nothing.tflite", "x.png"], 1, "no artifact at nothing.tflite"),
        (["predict", "x.png", "--csv", "--json"], 2, "exclude each other"),
        (["export", "--quantize", "int9"], 2, "'int9' is not one of"),
        (["evaluate", "/nowhere"], 1, "no artifact at /nowhere"),
    ],
)
def test_a_mistake_gets_one_clear_line_and_a_code(cli, arguments, code, words):
    done = cli(*arguments)
    assert done.code == code and words in done.err and "Traceback" not in done.err and not done.out


def test_a_mistake_in_the_recipe_is_told_with_its_line(cli, tiny_recipe):
    tiny_recipe.write_text(tiny_recipe.read_text().replace("epochs: 2", "epcohs: 2"))
    done = cli("train", tiny_recipe)
    assert done.code == 2
    assert f"{tiny_recipe}:6: unknown key 'train.epcohs'; did you mean 'epochs'?" in done.err


def test_debug_shows_the_traceback(cli):
    assert "Traceback" in cli("--debug", "train", "none.yaml").err


def test_no_runs_yet_is_told_with_the_command_that_makes_one(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("KCLS_RUNS", str(tmp_path))
    done = cli("evaluate")
    assert done.code == 1 and "no finished run in" in done.err and "kcls train recipe.yaml" in done.err


PREDICT = """if True:
    import sys
    class Blocked:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("tensorflow", "keras", "tensorflow_datasets"):
                raise ImportError(name + " is blocked")
    sys.meta_path.insert(0, Blocked())
    from kcls.cli import main
    main()
"""


def test_a_tflite_file_predicts_without_tensorflow(cli, newest, digit, python):
    report = json.loads(cli("export", "--tflite", "--json").out)["exports"][0]
    done = python(PREDICT, "predict", report["path"], digit, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predictions"] and not done.stderr
    blocked = python(PREDICT, "predict", newest, digit)
    assert blocked.returncode == 1 and "cannot be imported" in blocked.stderr


def test_the_models_of_a_pattern_are_listed(cli):
    listed = cli("models", "mobilenet_v4*", "--json")
    assert {row["name"] for row in json.loads(listed.out)} == {
        f"mobilenet_v4_conv_{size}" for size in ("small", "medium", "large")
    }
    assert cli("models", "nothing*").code == 2


def test_runs_are_listed_with_how_far_and_how_good_they_are(cli, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("KCLS_RUNS", str(tmp_path))
    assert cli("runs").out.startswith(f"no runs in {tmp_path}")
    shutil.copytree(trained.path, tmp_path / "tiny" / "1")
    shutil.copytree(trained.path, tmp_path / "tiny" / "2", ignore=shutil.ignore_patterns("model.keras"))
    first, second = json.loads(cli("runs", "--json").out)
    assert (first["run"], first["finished"], second["finished"]) == (str(tmp_path / "tiny" / "1"), True, False)
    assert first["best_val_top1"] == max(row["val_top1"] for row in trained.history() if row["best"])
    assert first["size_bytes"] > second["size_bytes"] > 0
    shown = cli("runs").out
    assert "finished" in shown and "epoch 2 of 2" in shown
