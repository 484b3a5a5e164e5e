"""The programs in export/ run an artifact without kcls, and answer as kcls does."""

import ast
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import kcls

PROGRAMS = sorted((ROOT / "export").glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
def test_an_edge_program_is_short_and_never_imports_kcls(program):
    text = program.read_text()
    assert len(text.splitlines()) <= 60
    modules = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in [getattr(node, "module", None) or "", *(a.name for a in getattr(node, "names", []))]
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert not modules & {"kcls", "tensorflow", "keras"}


@pytest.mark.heavy
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_classify_answers_as_kcls_predict(trained, tmp_path, fit):
    from kcls.artifact import open_keras
    from kcls.data.preprocess import Preprocess
    from kcls.exporting.tflite import make_tflite

    classifier = open_keras(trained.model_file)
    preprocess = Preprocess(8, fit, 1.0 if fit == "pad" else 0.9)
    model, photo = tmp_path / "model.tflite", tmp_path / "photo.png"
    model.write_bytes(make_tflite(classifier.model, classifier.class_names, preprocess, "none"))
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 61, 3), dtype=np.uint8)).save(photo)
    done = subprocess.run(
        [sys.executable, ROOT / "export" / "classify.py", model, photo], capture_output=True, text=True, check=True
    )
    (expected,) = kcls.predict(model, [photo], top_k=3)
    assert done.stdout.split("  ")[1:] == [
        f"{n} {p:.4f}" + ("\n" if i == 2 else "") for i, (n, p) in enumerate(expected.labels)
    ]


def test_classify_reads_every_kind_of_file_as_kcls_does(tmp_path):
    import importlib.util

    from test_decode import KINDS

    from kcls.data.decode import read_image
    from kcls.data.preprocess import Preprocess

    spec = importlib.util.spec_from_file_location("classify", ROOT / "export" / "classify.py")
    classify = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(classify)
    preprocess = Preprocess(12, "crop", 0.9)
    for name, contents in KINDS.items():
        path = tmp_path / name
        path.write_bytes(contents)
        mine = classify.square(Image.open(path), **preprocess.to_dict())[0]
        assert (mine == preprocess.pillow(read_image(path))).all(), name
