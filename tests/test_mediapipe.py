"""MediaPipe's ImageClassifier, which apps for Android and web pages use, opens exported files and answers as kcls."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from kcls.artifact import TFLiteClassifier, open_keras
from kcls.data.opening import open_data
from kcls.data.stream import examples
from kcls.exporting.tflite import make_tflite

MEDIAPIPE = "mediapipe==1.2.3"
CLIENT = """if True:
    import json, sys
    import mediapipe, numpy
    from mediapipe.tasks.python import BaseOptions, vision
    file, images, answers = sys.argv[1:]
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=file), max_results=-1)
    found = []
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for image in numpy.load(images):
            answer = classifier.classify(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image))
            (scores,) = answer.classifications
            found.append([(each.index, each.category_name, each.score) for each in scores.categories])
    with open(answers, "w") as file:
        json.dump(found, file)
"""


@pytest.fixture(scope="module")
def mediapipe(tmp_path_factory):
    """Python with MediaPipe, in an environment of its own: it wants another NumPy and OpenCV than others do."""
    folder = tmp_path_factory.mktemp("mediapipe")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", MEDIAPIPE]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "(from versions: none)" in done.stderr and os.environ.get("CI") != "true":
        pytest.skip(f"pip reaches no index that has {MEDIAPIPE}: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return python


@pytest.fixture(scope="module")
def squares(trained):
    """Held-out digits of the model's size, uint8 (90, 8, 8, 3)."""
    preprocess, split = open_keras(trained.model_file).preprocess, open_data(trained.recipe.data).split("test")
    return np.stack([square for _, square, _ in examples(split, preprocess.view).as_numpy_iterator()])


@pytest.mark.heavy
def test_mediapipe_gives_our_labels_and_probabilities(trained, squares, mediapipe, tmp_path):
    model, images = open_keras(trained.model_file), tmp_path / "images.npy"
    names = tuple(f"digit {name}" for name in model.class_names)  # so that an index is no name
    np.save(images, squares)
    for quantize in ("none", "int8"):
        file, answers = tmp_path / f"{quantize}.tflite", tmp_path / f"{quantize}.json"
        file.write_bytes(make_tflite(model.model, names, model.preprocess, quantize, squares))
        done = subprocess.run([mediapipe, "-c", CLIENT, file, images, answers], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        expected = TFLiteClassifier(file).probabilities(squares)
        assert len(np.unique(expected.argmax(-1))) > 3  # the answers differ
        found = np.zeros_like(expected)
        for row, scores in zip(found, json.loads(answers.read_text()), strict=True):
            assert sorted((index, name) for index, name, _ in scores) == list(enumerate(names))
            row[[index for index, _, _ in scores]] = [score for _, _, score in scores]
        # int8 counts in integers and gives steps of 1/256; MediaPipe brings a LiteRT of its own, whose kernels may add
        # float32 numbers in another order.
        np.testing.assert_allclose(found, expected, rtol=0, atol=0 if quantize == "int8" else 1e-6)
