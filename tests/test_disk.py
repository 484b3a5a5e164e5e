"""A disk that is full or read-only: a clear error, and nothing half-written or lost."""

import shutil

import pytest

LIMITED = """if True:
    import resource, signal, sys
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit then fails, as on a full disk
    limit = int(sys.argv.pop(1))
    from kcls.backend import require_tensorflow
    require_tensorflow()
    from kcls import training, exporting, evaluation
    training.train, exporting.export, evaluation.evaluate  # loaded before the limit, which is for what they write
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    from kcls.cli import main
    main()
"""


@pytest.mark.heavy
def test_a_full_disk_while_training_is_told_and_leaves_no_half_checkpoint(python, tiny_recipe, trained, tmp_path):
    done = python(LIMITED, 20_000, "train", tiny_recipe, "--out", tmp_path / "run")
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "Error: cannot write " in done.stderr and "best.npz: File too large" in done.stderr
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    assert not (tmp_path / "run" / "model.keras").exists()


@pytest.mark.heavy
def test_a_full_disk_while_exporting_leaves_no_file(python, trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained.path, run, ignore=shutil.ignore_patterns("export"))
    done = python(LIMITED, 20_000, "export", run, "--tflite")
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "Error: " in done.stderr
    assert not [p for p in (run / "export").rglob("*") if p.name != "labels.txt"]


@pytest.mark.parametrize("where", ["/proc/kcls/run", "/dev/null/run"])
def test_a_folder_that_cannot_be_written_is_told(cli, tiny_recipe, where):
    done = cli("train", tiny_recipe, "--out", where)
    assert done.code == 1 and f"cannot write the run {where}" in done.err
