"""Fixtures: a tiny trained run, folders of images, and the command line in this process."""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes: they share the cores, so a thread each
    for threads in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):  # the last is PyTorch's
        os.environ.setdefault(threads, "1")

ROOT = Path(__file__).parent.parent
TINY_RECIPE = """\
model:   {name: resnet20, options: {units: 1, width: 4}}
data:    {source: digits, train: "train[:20%]", val: "train[90%:]", test: "test[:25%]"}
image:   {size: 8}
augment: {flip: false, crop_padding: 1}
optimizer: {name: sgd, lr: 0.1, weight_decay: 5.0e-4, warmup_epochs: 1}
train:   {epochs: 2, batch_size: 64}
"""


def pytest_configure(config):
    """Keeps the tests out of the user's data sets and runs, before anything reads where these are."""
    config.own_folders = tempfile.TemporaryDirectory(prefix="kcls-tests-")
    os.environ["TFDS_DATA_DIR"] = os.path.join(config.own_folders.name, "tfds")
    os.environ["KCLS_RUNS"] = os.path.join(config.own_folders.name, "runs")


def pytest_unconfigure(config):
    config.own_folders.cleanup()


@pytest.fixture(autouse=True)
def seeded():
    """The same random weights, images and dropped units whatever ran before, for tests that use Keras."""
    if "keras" in sys.modules:
        # TensorFlow's own seed, which Keras does not draw from, is left: to set it empties the caches of all kernels.
        with mock.patch("tensorflow.random.set_seed"):
            sys.modules["keras"].utils.set_random_seed(0)


@pytest.fixture
def tiny_recipe(tmp_path) -> Path:
    """A recipe that trains in seconds."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_RECIPE)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished run of the tiny recipe; do not change it."""
    import kcls

    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY_RECIPE)
    return kcls.train(folder / "tiny.yaml", out=folder / "run")


@dataclass
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli() -> Callable[..., Outcome]:
    """Runs a kcls command in this process."""

    def run(*arguments) -> Outcome:
        from kcls.cli import main

        out, err, argv = io.StringIO(), io.StringIO(), sys.argv
        sys.argv = ["kcls", *map(str, arguments)]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main()
        except SystemExit as stop:
            return Outcome(stop.code, out.getvalue(), err.getvalue())
        finally:
            sys.argv = argv

    return run


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess]:
    """Runs a piece of Python in a new process."""

    def run(code: str, *arguments, **environment) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def write_images(folder: Path, count: int, colour: tuple[int, int, int], size: int = 12) -> None:
    """Writes ``count`` noisy PNG images of a colour."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(sum(colour))
    for i in range(count):
        noise = random.integers(-40, 40, (size, size, 3))
        Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(folder / f"{i:03}.png")


@pytest.fixture
def flat_folder(tmp_path) -> Path:
    """``root/class/image`` with classes of 20, 30 and 50 images."""
    root = tmp_path / "photos"
    for name, count, colour in (
        ("blue", 20, (40, 40, 200)),
        ("green", 30, (40, 200, 40)),
        ("red", 50, (200, 40, 40)),
    ):
        write_images(root / name, count, colour)
    return root


FOLDER_RECIPE = """\
model:   {name: resnet20, options: {units: 1, width: 4}}
data:    {source: folder, path: photos, train: "all[:60%]", val: "all[60%:80%]", test: "all[80%:]"}
image:   {size: 12}
augment: {flip: true}
optimizer: {name: adamw, lr: 0.01}
train:   {epochs: 2, batch_size: 20}
"""


@pytest.fixture
def folder_recipe(flat_folder) -> Path:
    """A recipe for ``flat_folder``, beside it."""
    path = flat_folder.parent / "folder.yaml"
    path.write_text(FOLDER_RECIPE)
    return path
