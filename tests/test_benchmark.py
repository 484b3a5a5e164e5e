"""kcls benchmark: its numbers are of the file alone, what XNNPACK leaves out is named, and what cannot run is told."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tiny import shared

import kcls
from kcls.cli.benchmark import ON_DEVICES
from kcls.data.preprocess import Preprocess
from kcls.errors import KclsError, RecipeError
from kcls.exporting import benchmark
from kcls.exporting.tflite import make_tflite

MIB = 2**20
QUICK = dict(threads=[1], seconds=0.05)


def write(path: Path, model: keras.Model, quantize: str = "none") -> Path:
    size, classes = model.input_shape[1], model.output_shape[1]
    squares = np.random.default_rng(0).integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    path.write_bytes(make_tflite(model, tuple(map(str, range(classes))), Preprocess(size), quantize, squares))
    return path


def changed(file: Path, change) -> Path:
    """A copy of a TFLite file whose tree ``change`` has changed."""
    tree = schema.ModelT.InitFromPackedBuf(bytearray(file.read_bytes()), 0)
    change(tree)
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), b"TFL3")
    copy = file.with_name(f"{change.__name__}.tflite")
    copy.write_bytes(bytes(builder.Output()))
    return copy


def with_power() -> keras.Model:
    """Two powers between three convolutions: XNNPACK has no power."""
    image = x = keras.Input((8, 8, 3))
    for _ in range(2):
        x = keras.ops.power(keras.layers.Conv2D(4, 3, activation="relu")(x) + 1, 0.7)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(5, 3)(x)), name="power")


def wide() -> keras.Model:
    """15 MiB of weights."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.Dense(20480, activation="relu")(keras.layers.Flatten()(image))
    return keras.Model(image, keras.layers.GlobalMaxPooling1D()(keras.layers.Reshape((4096, 5))(x)), name="wide")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmark")


@pytest.fixture(scope="module")
def files(folder):
    """A network of convolutions as float32 and as int8."""
    model = shared("cifar")
    return [write(folder / f"cifar_{quantize}.tflite", model, quantize) for quantize in ("none", "int8")]


def test_a_benchmark_says_how_fast_how_large_and_how_whole(files):
    found = kcls.benchmark(files, threads=[1, 2, 1], seconds=1e-6)
    assert [file["path"] for file in found["files"]] == list(map(str, files))
    for path, file in zip(files, found["files"], strict=True):
        assert file["size_bytes"] == path.stat().st_size
        tree = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
        assert file["operators"] == len(tree.subgraphs[0].operators)
        assert [run["threads"] for run in file["runs"]] == [1, 2]
        for run in file["runs"]:
            assert 0 < run["p50_ms"] <= run["p95_ms"] and run["calls"] == 20  # at least, of what is so short
            assert run["load_ms"] > run["p50_ms"]  # it ends with a call
            # Python and LiteRT take 42 MiB on Linux, TensorFlow would add 300.
            assert 10 * MIB < run["memory_before_bytes"] < run["peak_memory_bytes"] < 120 * MIB
    machine = found["machine"]
    assert machine["runtime"].startswith("ai-edge-litert 2.") and machine["cores"] >= 1 and machine["load"] >= 0
    assert all(machine[name] for name in ("cpu", "os", "python"))


def test_what_xnnpack_lacks_is_named_and_cuts_the_network(folder):
    (file,) = kcls.benchmark(write(folder / "power.tflite", with_power()), **QUICK)["files"]
    assert file["left_out"]["POW"] == 2 and file["partitions"] == 3
    assert not {"CONV_2D", "MEAN", "ADD"} & file["left_out"].keys()


def test_a_network_that_xnnpack_runs_as_a_whole_is_one_partition(files):
    (file,) = kcls.benchmark(files[1], **QUICK)["files"]
    assert file["partitions"] == 1 and "CONV_2D" not in file["left_out"]


def test_memory_is_that_of_the_file_whatever_the_process_that_asks_has(folder, files):
    large = write(folder / "wide.tflite", wide())
    ballast = np.ones(300 * MIB, np.uint8)
    rows = kcls.benchmark([files[1], large], **QUICK)["files"]
    small, wide_ = (row["runs"][0]["peak_memory_bytes"] - row["runs"][0]["memory_before_bytes"] for row in rows)
    # XNNPACK packs a copy of the weights; the file is mapped into memory, too.
    assert 0 < small < 15 * MIB <= wide_ < 60 * MIB < ballast.nbytes


def test_files_take_turns(files, monkeypatch):
    turns, measure = [], benchmark._Worker.measure
    monkeypatch.setattr(
        benchmark._Worker, "measure", lambda worker, s: (turns.append((worker.file, s)), measure(worker, s))
    )
    kcls.benchmark(files, **QUICK)
    assert turns == [(file, 0.01) for file in files] * 5


def test_a_run_stands_for_its_tflite_files(files, tmp_path, monkeypatch, cli):
    monkeypatch.setenv("KCLS_RUNS", str(tmp_path))
    run = tmp_path / "tiny" / "1"
    (run / "export" / "saved_model").mkdir(parents=True)
    for name in ("recipe.yaml", "labels.txt", "model.keras"):
        (run / name).touch()
    done = cli("benchmark", run)
    assert done.code == 1
    assert f"{run} has no TFLite file yet; `kcls export {run} --tflite` writes one" in done.err
    for file in files:
        shutil.copy(file, run / "export")
    shutil.copy(files[0], run / "export" / ".cifar_none.1234.tmp.tflite")  # of an export that was killed
    expected = sorted(str(run / "export" / file.name) for file in files)
    done = cli("benchmark", "--threads", "1", "--seconds", "0.05", "--json")  # the newest run
    assert done.code == 0 and len(done.out.splitlines()) == 1, done.err
    assert [file["path"] for file in json.loads(done.out)["files"]] == expected
    both = kcls.benchmark([run, expected[0]], **QUICK)["files"]  # a file that is named twice is measured once
    assert [file["path"] for file in both] == expected


def test_the_table_has_units_and_the_commands_for_devices(files, cli):
    done = cli("benchmark", *files, "--seconds", "0.05")
    assert done.code == 0, done.err
    line = next(line for line in done.out.splitlines() if str(files[0]) in line)
    assert re.search(r"\d\.\d\d MiB +\d+\.\d ms +\d+\.\d\d MiB +\d+ +\d+ of \d+ +\d+\.\d{3} ms +\d+\.\d{3} ms", line)
    assert "p50, 1 thread" in done.out and "cores, " in done.out and "ai-edge-litert 2." in done.out
    assert re.search(rf"XNNPACK leaves out of {re.escape(str(files[0]))}: .*\d [A-Z]", done.out)
    assert re.search(r"adb push \S*cifar_\w+\.tflite /data/local/tmp/model\.tflite", done.out)
    assert "benchmark_model --graph=/data/local/tmp/model.tflite --num_threads=4" in done.out


def test_the_line_for_a_raspberry_pi_runs(files):
    command = ON_DEVICES[ON_DEVICES.index("ai_edge_litert.tools.") :].replace("\\\n", "").split()
    command = [word.replace("model.tflite", str(files[1])) for word in command]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"Inference \(median\): +\d", done.stdout) and "(100 runs)" in done.stdout


def test_a_benchmark_needs_no_tensorflow(files, python):
    code = "import sys, kcls; kcls.benchmark(sys.argv[1], threads=[1], seconds=0.05); print(*sys.modules)"
    done = python(code, files[1])
    assert done.returncode == 0, done.stderr[-2000:]
    assert not {"tensorflow", "keras", "ai_edge_litert"} & set(done.stdout.split())


def test_what_is_no_tflite_file_is_refused(tmp_path, cli):
    (tmp_path / "text.tflite").write_text("not a model")
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model" / "saved_model.pb").touch()
    done = cli("benchmark", tmp_path / "nothing.tflite")
    assert done.code == 1 and f"no file at {tmp_path / 'nothing.tflite'}; only TFLite files are measured" in done.err
    for name in ("text.tflite", "saved_model"):
        done = cli("benchmark", tmp_path / name)
        assert done.code == 1 and f"{tmp_path / name} is no TFLite model; only TFLite files are measured" in done.err
        assert "`kcls export ARTIFACT --tflite` makes them" in done.err


def test_numbers_that_make_no_sense_are_refused(files, cli):
    for threads in ("0", "-1"):
        done = cli("benchmark", files[0], "--threads", threads)
        assert done.code == 2 and f"threads are 1 or more, not {threads}" in done.err
    for seconds in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(RecipeError, match=f"seconds are a number more than 0, not {seconds:g}"):
            kcls.benchmark(files[0], seconds=seconds)


def test_an_operator_that_litert_lacks_is_named(files):
    def missing(tree):
        (code,) = (code for code in tree.operatorCodes if code.builtinCode == schema.BuiltinOperator.SOFTMAX)
        code.deprecatedBuiltinCode = code.builtinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = b"TheirOwnSoftmax"

    def newer(tree):
        (code,) = (code for code in tree.operatorCodes if code.builtinCode == schema.BuiltinOperator.SOFTMAX)
        code.version = 99

    for change, words in ((missing, "unresolved custom op: TheirOwnSoftmax"), (newer, "'SOFTMAX' version '99'")):
        file = changed(files[1], change)
        with pytest.raises(KclsError, match=rf"{change.__name__}.tflite does not run on ai-edge-litert 2\..*{words}"):
            kcls.benchmark([files[0], file], **QUICK)


def test_a_damaged_file_is_told(files, tmp_path):
    half = tmp_path / "half.tflite"
    half.write_bytes(files[0].read_bytes()[:20_000])
    with pytest.raises(KclsError, match=r"half\.tflite does not run on ai-edge-litert .*not a valid Flatbuffer"):
        kcls.benchmark(half, **QUICK)


def test_a_process_that_dies_is_told_with_its_end(files, tmp_path, monkeypatch):
    with benchmark._worker(files[0], 1) as worker:
        os.kill(worker._process.pid, signal.SIGKILL)
        worker._process.wait()
        with pytest.raises(KclsError, match=r"cifar_none\.tflite .*its process ended with SIGKILL"):
            worker.measure(0.1)
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho Traceback >&2\necho 'ImportError: no LiteRT' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(KclsError, match=r"cifar_none\.tflite .*: exit code 3: ImportError: no LiteRT"):
        kcls.benchmark(files[0], **QUICK)
