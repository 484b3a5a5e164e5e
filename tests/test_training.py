"""A training: what it leaves behind, how it stops, and how it goes on."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import TINY_RECIPE

import kcls
from kcls.data.opening import open_data
from kcls.errors import DataError, Interrupted, KclsError, RecipeError
from kcls.recipe import load_recipe
from kcls.run import create_run
from kcls.training import loop
from kcls.training.checkpoint import save_checkpoint


def weights_of(run) -> list[np.ndarray]:
    return keras.models.load_model(run.model_file).get_weights()


def interrupt_at(monkeypatch, step: int, number: int = signal.SIGTERM) -> None:
    """Sends this process a signal when ``step`` is shown, which is when the next one is done."""
    monkeypatch.setattr(loop, "UNREAD_STEPS", 1)
    show = loop.TrainingDisplay.step

    def step_and_kill(self, epoch, done, loss):
        show(self, epoch, done, loss)
        if done == step:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(loop.TrainingDisplay, "step", step_and_kill)


def test_a_run_holds_everything(trained):
    names = {p.name for p in trained.path.iterdir()} - {"evaluation", "export"}  # of other tests
    assert names == {
        "recipe.yaml",
        "splits.json",
        "environment.json",
        ".lock",
        "labels.txt",
        "train.log",
        "metrics.jsonl",
        "curves.png",
        "tensorboard",
        "checkpoints",
        "model.keras",
    }
    assert trained.finished and trained.class_names == tuple("0123456789")
    (start,) = json.loads((trained.path / "environment.json").read_text())
    assert start["keras"] == keras.__version__ and start["replicas"] == 1 and start["step"] == 0


def test_the_resolved_recipe_is_the_recipe(trained):
    given = load_recipe(trained.path.parent / "tiny.yaml")
    own = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # of the network, as the recipe does not say
    assert load_recipe(trained.recipe_file) == given.with_image(own)


def test_there_is_one_line_and_one_object_an_epoch(trained):
    rows = trained.history()
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["step"] for row in rows] == [4, 8]  # 288 images of 20 % of train, batches of 64
    assert all(0 <= row[key] <= 1 for row in rows for key in ("top1", "val_top1"))
    log = (trained.path / "train.log").read_text().splitlines()
    assert len(log) == 3 and log[1].startswith("epoch   1/2  loss ") and "images/s" in log[1]
    assert list((trained.path / "tensorboard").glob("events*"))


def test_the_saved_model_is_plain_keras_with_the_best_weights(trained):
    best = np.load(trained.best_checkpoint)
    saved = weights_of(trained)
    kept = [best[name] for name in best.files if name != "meta"]
    assert all((a == b).all() for a, b in zip(saved, kept, strict=True))
    model = keras.models.load_model(trained.model_file)
    assert type(model).__module__.startswith("keras.") and not model.compiled


@pytest.mark.heavy
def test_training_learns(tiny_recipe, tmp_path):
    recipe = load_recipe(tiny_recipe, ["train.epochs=8", "train.batch_size=32", "data.train=train[:60%]"])
    rows = kcls.train(recipe, out=tmp_path / "run").history()
    assert rows[-1]["loss"] < rows[0]["loss"] / 2
    assert rows[-1]["val_top1"] > 0.5  # chance is 0.1


@pytest.mark.heavy
def test_another_seed_gives_other_weights(tiny_recipe, tmp_path, trained):
    other = kcls.train(
        load_recipe(tiny_recipe, ["train.seed=1", "train.epochs=1", "optimizer.warmup_epochs=0"]),
        out=tmp_path / "other",
    )
    assert any((a != b).any() for a, b in zip(weights_of(trained), weights_of(other), strict=True))


DROPOUT = ["model.drop_rate=0.3", "model.options.drop_path_rate=0.2", "augment.rotation=20"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with every source of randomness that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.yaml").write_text(TINY_RECIPE)
    return kcls.train(load_recipe(folder / "tiny.yaml", DROPOUT), out=folder / "run")


# The signal comes while the steps 1 and 3 of 4 are shown, and so is noticed after the steps 2 and 4.
@pytest.mark.parametrize(
    ("step", "saved"),
    [pytest.param(1, 2, id="within an epoch"), pytest.param(3, 4, id="at its last step", marks=pytest.mark.heavy)],
)
def test_a_stopped_and_resumed_run_ends_with_the_same_bits(whole, tmp_path, monkeypatch, step, saved):
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(Interrupted, match=rf"SIGTERM: saved at step {saved} of 8; .*--resume"):
            kcls.train(whole.recipe, out=tmp_path / "stopped")
    resumed = kcls.train(resume=True, out=tmp_path / "stopped")
    assert all((a == b).all() for a, b in zip(weights_of(whole), weights_of(resumed), strict=True))
    same = ("epoch", "step", "loss", "top1", "val_loss", "val_top1", "best")
    for a, b in zip(whole.history(), resumed.history(), strict=True):
        assert {k: a[k] for k in same} == {k: b[k] for k in same}


@pytest.mark.heavy
def test_a_run_with_layers_of_kcls_is_used_by_another_process(whole, python):
    code = "import sys; from kcls.artifact import open_artifact; print(open_artifact(sys.argv[1]).class_names[9])"
    done = python(code, whole.path)
    assert done.stdout == "9\n", done.stderr


@pytest.mark.heavy
def test_a_stop_at_the_last_step_of_all_finishes_the_epoch(tiny_recipe, tmp_path, monkeypatch):
    interrupt_at(monkeypatch, 7)
    assert kcls.train(tiny_recipe, out=tmp_path / "run").finished


def test_a_run_is_trained_by_one_process_at_a_time(unfinished):
    with unfinished.locked(), pytest.raises(KclsError, match="is being trained by another process"):
        kcls.train(resume=True, out=unfinished.path)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.heavy)]
)
def test_ctrl_c_leaves_130_and_sigterm_143(tiny_recipe, tmp_path, monkeypatch, cli, number, code):
    interrupt_at(monkeypatch, 2, number)
    outcome = cli("train", tiny_recipe, "--out", tmp_path / "run")
    assert outcome.code == code and "saved at step 3 of 8" in outcome.err
    assert signal.getsignal(number) is not None and not (tmp_path / "run" / "model.keras").exists()


@pytest.fixture
def unfinished(trained, tmp_path):
    """A run that was killed before its end."""
    path = tmp_path / "run"
    shutil.copytree(trained.path, path, ignore=shutil.ignore_patterns("model.keras"))
    return kcls.Run(path)


def test_a_resume_with_a_changed_recipe_names_the_keys(tiny_recipe, unfinished):
    with pytest.raises(RecipeError, match=r"differs from that of run .*: optimizer.lr: 0.1 -> 0.2; train.seed: 0 -> 3"):
        kcls.train(load_recipe(tiny_recipe, ["optimizer.lr=0.2", "train.seed=3"]), out=unfinished.path, resume=True)


def test_a_finished_run_has_nothing_to_resume(trained):
    before = trained.model_file.stat().st_mtime_ns
    assert kcls.train(resume=True, out=trained.path).path == trained.path
    assert trained.model_file.stat().st_mtime_ns == before


@pytest.mark.heavy
def test_a_run_without_a_checkpoint_starts_from_its_beginning(trained, unfinished):
    shutil.rmtree(unfinished.path / "checkpoints")
    resumed = kcls.train(resume=True, out=unfinished.path)
    assert all((a == b).all() for a, b in zip(weights_of(trained), weights_of(resumed), strict=True))
    assert len(resumed.history()) == 2


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_taken(trained, unfinished, caplog):
    damaged = unfinished.last_checkpoint.read_bytes()[:1000]
    unfinished.last_checkpoint.write_bytes(damaged)
    resumed = kcls.train(resume=True, out=unfinished.path)
    assert "last.npz is damaged" in caplog.text and "the one before it is taken" in caplog.text
    assert all((a == b).all() for a, b in zip(weights_of(trained), weights_of(resumed), strict=True))


def test_if_all_checkpoints_are_damaged_they_are_kept(unfinished):
    files = unfinished.last_checkpoint, unfinished.previous_checkpoint
    for file in files:
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(KclsError, match=r"previous\.npz is damaged"):
        kcls.train(resume=True, out=unfinished.path)
    assert [file.stat().st_size for file in files] == [1000, 1000]


def names_in(run) -> set[str]:
    """The files of a run but those of TensorBoard, whose names hold the time."""
    return {str(p.relative_to(run.path)) for p in run.path.rglob("*") if "tensorboard" not in p.parts}


class Killed(BaseException):
    """What ends a process, whatever it does."""


def kill_at_write(monkeypatch, number: int) -> None:
    """Ends the process before the file of that number, from 0, takes its place."""
    replace, left = os.replace, [number]

    def counted(old, new):
        left[0] -= 1
        if left[0] == -1:
            raise Killed
        replace(old, new)

    monkeypatch.setattr(os, "replace", counted)


@pytest.mark.heavy
def test_a_run_that_is_killed_at_any_write_ends_with_the_same_files_after_a_resume(tmp_path, cli, monkeypatch):
    text = TINY_RECIPE + "export:  {formats: [tflite], quantize: int8, max_drop: 1, min_agreement: 0}\n"
    (tmp_path / "tiny.yaml").write_text(text)
    assert cli("train", tmp_path / "tiny.yaml", "--out", tmp_path / "whole").code == 0
    whole, number = kcls.Run(tmp_path / "whole"), 0
    while True:
        out = tmp_path / f"run{number}"
        with monkeypatch.context() as patch:
            kill_at_write(patch, number)
            try:
                if cli("train", tmp_path / "tiny.yaml", "--out", out).code == 0:
                    break  # there are no more writes
            except Killed:
                pass
        number += 7
        if not (out / "recipe.yaml").exists():  # killed before there was a run
            continue
        outcome = cli("train", "--resume", "--out", out)
        assert outcome.code == 0, outcome.err
        run = kcls.Run(out)
        assert all((a == b).all() for a, b in zip(weights_of(whole), weights_of(run), strict=True))
        names = [
            {p.relative_to(r.path) for p in r.path.rglob("*") if "tensorboard" not in str(p)} for r in (whole, run)
        ]
        assert names[0] == names[1]
        assert run.complete
    assert number > 20


def test_a_run_that_another_process_trains_is_not_replaced(tiny_recipe, unfinished):
    with unfinished.locked(), pytest.raises(KclsError, match="is being trained by another process"):
        kcls.train(tiny_recipe, out=unfinished.path, force=True)
    assert unfinished.last_checkpoint.exists()


def test_what_a_killed_process_left_half_written_is_removed_and_in_nobodys_way(tiny_recipe, unfinished):
    (unfinished.path / ".metrics.123.tmp.jsonl").touch()
    (unfinished.path / "checkpoints" / ".last.123.tmp.npz").touch()
    kcls.train(resume=True, out=unfinished.path)
    assert not [p for p in unfinished.path.rglob(".*") if p.name != ".lock"]
    (unfinished.path / ".metrics.123.tmp.jsonl").touch()
    create_run(load_recipe(tiny_recipe), "tiny", ("a", "b"), unfinished.path, force=True)


def test_a_run_is_never_overwritten_without_force(tiny_recipe, tmp_path, trained):
    before = trained.model_file.read_bytes()
    with pytest.raises(KclsError, match="is finished; --force replaces it"):
        kcls.train(tiny_recipe, out=trained.path)
    assert trained.model_file.read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(KclsError, match="exists and is not a run"):
        kcls.train(tiny_recipe, out=tmp_path / "mine", force=True)
    for name in ("recipe.yaml", "labels.txt"):
        shutil.copy(trained.path / name, tmp_path / "mine" / name)
    with pytest.raises(KclsError, match=r"holds 'thesis\.txt', which is not of a run"):
        kcls.train(tiny_recipe, out=tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_force_replaces_a_run(tiny_recipe, unfinished):
    with pytest.raises(KclsError, match="is not finished: --resume goes on with it; --force replaces it"):
        create_run(load_recipe(tiny_recipe), "tiny", ("a", "b"), unfinished.path, force=False)
    run = create_run(load_recipe(tiny_recipe), "tiny", ("a", "b"), unfinished.path, force=True)
    assert sorted(p.name for p in run.path.iterdir()) == ["labels.txt", "recipe.yaml"]


def test_runs_are_numbered_under_the_recipes_name(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("KCLS_RUNS", str(tmp_path / "runs"))
    with pytest.raises(KclsError, match=r"no run in .*runs; `kcls train recipe\.yaml` makes one"):
        kcls.newest_run()
    runs = [create_run(load_recipe(tiny_recipe), "tiny", ("a", "b"), None, force=False) for _ in range(11)]
    assert [run.path.relative_to(tmp_path).as_posix() for run in (runs[0], runs[10])] == [
        "runs/tiny/1",
        "runs/tiny/11",
    ]
    assert kcls.newest_run() == runs[10]
    with pytest.raises(KclsError, match=r"no finished run of recipe 'tiny' in .*runs"):
        kcls.newest_run("tiny", finished=True)


def test_a_loss_that_is_not_finite_stops_with_the_step(tiny_recipe, tmp_path):
    recipe = load_recipe(tiny_recipe, ["optimizer.lr=1e30", "optimizer.warmup_epochs=0"])
    with pytest.raises(KclsError, match=r"the loss is (nan|inf) at step [2-4] \(epoch 1, step [2-4] of 4\), learning"):
        kcls.train(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run" / "model.keras").exists()


@pytest.mark.heavy
def test_a_model_that_diverges_in_its_only_step_is_not_the_best(tiny_recipe, tmp_path):
    overrides = ["optimizer.lr=1e30", "optimizer.warmup_epochs=0", "train.batch_size=288"]
    with pytest.raises(KclsError, match=r"the validation loss is nan at step 1 .*; nothing was saved yet"):
        kcls.train(load_recipe(tiny_recipe, overrides), out=tmp_path / "run")
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_nothing_is_written_when_the_recipe_cannot_be_carried_out(tiny_recipe, tmp_path):
    bad = {
        "model.name=resnett20": (RecipeError, "unknown model 'resnett20'; did you mean 'resnet20'"),
        "model.options.widht=4": (RecipeError, "no option 'widht'; did you mean 'width'"),
        "train.batch_size=1000": (DataError, "batch_size is 1000, but split 'train' has only 288"),
        "data.test=tset": (DataError, "digits has no split 'tset'"),
    }
    for override, (kind, words) in bad.items():
        with pytest.raises(kind, match=words):
            kcls.train(load_recipe(tiny_recipe, [override]), out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


@pytest.mark.heavy
def test_bfloat16_trains_in_half_precision_and_saves_a_float32_model(tiny_recipe, tmp_path, trained):
    run = kcls.train(load_recipe(tiny_recipe, ["train.precision=mixed_bfloat16"]), out=tmp_path / "run")
    model = keras.models.load_model(run.model_file)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    losses, exact = ([row["loss"] for row in r.history()] for r in (run, trained))  # the same seed and images
    assert losses != exact
    # bfloat16 rounds at 4e-3; in the mean over the images of an epoch 4e-4 were seen.
    assert losses == pytest.approx(exact, rel=0.01)


def test_an_image_that_breaks_in_the_middle_of_a_training_is_named(folder_recipe, flat_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("kcls.data.opening.MEMORY_LIMIT", 0)
    for path in sorted((flat_folder / "red").iterdir())[:40]:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"of 60 images of split 'train' cannot be decoded; remove or repair them:\n"):
        kcls.train(folder_recipe, out=tmp_path / "run")


def test_a_checkpoint_is_whole_even_if_the_process_is_killed_while_it_is_written(tmp_path, python):
    variables = [keras.Variable(np.zeros(2_000_000, "float32"))]
    save_checkpoint(tmp_path / "c.npz", variables, {"step": 1})
    code = """if True:
        import os, sys, threading, time, numpy as np
        from kcls.training.checkpoint import save_checkpoint
        class V:
            path = "variable"
            def numpy(self):
                return np.ones(2_000_000, "float32")
        threading.Timer(float(sys.argv[2]), lambda: os.kill(os.getpid(), 9)).start()
        while True:
            save_checkpoint(__import__("pathlib").Path(sys.argv[1]), [V()], {"step": 2})
    """
    for delay in (0.02, 0.05):
        assert python(code, tmp_path / "c.npz", delay, KERAS_BACKEND="tensorflow").returncode == -9
        with np.load(tmp_path / "c.npz") as file:
            assert len({float(v) for v in file[next(n for n in file.files if n != "meta")][[0, -1]]}) == 1
        time.sleep(0.01)


@pytest.mark.heavy
def test_a_policy_of_the_script_does_not_reach_the_saved_model(tiny_recipe, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        run = kcls.train(
            load_recipe(tiny_recipe, ["train.epochs=1", "optimizer.warmup_epochs=0"]), out=tmp_path / "run"
        )
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.dtype_policy.name for layer in keras.models.load_model(run.model_file).layers} == {"float32"}


@pytest.mark.heavy
def test_float16_trains_with_a_scaled_loss_and_resumes(tiny_recipe, tmp_path, monkeypatch):
    recipe = load_recipe(tiny_recipe, ["train.precision=mixed_float16", "optimizer.lr=0.01"])
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        with pytest.raises(Interrupted):
            kcls.train(recipe, out=tmp_path / "run")
    with np.load(tmp_path / "run" / "checkpoints" / "last.npz") as saved:
        assert [name for name in saved.files if "dynamic_scale" in name]
    run = kcls.train(resume=True, out=tmp_path / "run")
    assert all(np.isfinite(row["loss"]) for row in run.history())
    model = keras.models.load_model(run.model_file)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


@pytest.mark.heavy
def test_after_a_broken_image_the_training_goes_on_from_where_it_was(folder_recipe, flat_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("kcls.data.opening.MEMORY_LIMIT", 0)
    whole = kcls.train(folder_recipe, out=tmp_path / "whole")
    source = open_data(load_recipe(folder_recipe).data).split("train")
    order = [int(i) for i in source.tickets((0, 1))]  # of the second epoch
    broken = Path(source.paths[next(i for i in order[40:] if i >= 20)])  # in its third step of three
    contents, read = broken.read_bytes(), loop._validate
    with monkeypatch.context() as patch:  # it breaks after the first epoch

        def validate_and_break(*arguments):
            broken.write_bytes(contents[:50])
            return read(*arguments)

        patch.setattr(loop, "_validate", validate_and_break)
        patch.setattr("kcls.data.reading.MOST_LOOKED_AT", 20)  # those of the batch in hand, in the order of the epoch
        patch.setattr("tensorflow.data.AUTOTUNE", 1)  # read nothing ahead of the break
        message = rf"{broken.name}: .*\nsaved at step 5 of 6; go on with `kcls train --resume .*once they are repaired"
        with pytest.raises(DataError, match=message):
            kcls.train(folder_recipe, out=tmp_path / "run")
    with np.load(tmp_path / "run" / "checkpoints" / "last.npz") as saved:
        assert json.loads(str(saved["meta"]))["step"] == 5
    broken.write_bytes(contents)
    resumed = kcls.train(resume=True, out=tmp_path / "run")
    assert all((a == b).all() for a, b in zip(weights_of(whole), weights_of(resumed), strict=True))
