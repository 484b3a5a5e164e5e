"""The programs in export/ run an artifact without kcls, and answer as kcls does."""

import ast
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from test_decode import KINDS, encoded, picture

import kcls
from kcls.data.decode import decode_pillow, read_image
from kcls.data.preprocess import Preprocess

PROGRAMS = sorted((ROOT / "export").glob("*.py"))
CLASSIFY = ROOT / "export" / "classify.py"
STB = Path("/usr/include/stb")


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


def test_classify_reads_every_kind_of_file_as_kcls_does(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "export")
    from square import square

    preprocess = Preprocess(12, "crop", 0.9)
    for name, contents in KINDS.items():
        path = tmp_path / name
        path.write_bytes(contents)
        assert (square(path, **preprocess.to_dict())[0] == preprocess.pillow(read_image(path))).all(), name


def noise(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def make(trained, path: Path, preprocess: Preprocess, quantize: str = "none") -> Path:
    """The model of a run as a TFLite file."""
    from kcls.artifact import open_keras
    from kcls.exporting.tflite import make_tflite

    classifier = open_keras(trained.model_file)
    calibration = noise(8, 8, 8, seed=2) if quantize == "int8" else ()
    path.write_bytes(make_tflite(classifier.model, classifier.class_names, preprocess, quantize, calibration))
    return path


@pytest.fixture(scope="module")
def model(trained, tmp_path_factory):
    return make(trained, tmp_path_factory.mktemp("model") / "model.tflite", Preprocess(8))


def classify(*arguments, modules: Path | None = None) -> subprocess.CompletedProcess:
    """Runs classify.py, to which Python files in ``modules`` are what is installed on a device."""
    return subprocess.run(
        [sys.executable, CLASSIFY, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(modules or "")},
    )


def answers(output: str) -> dict[str, dict[str, float]]:
    """Image -> label -> probability of what a program printed, which ends each line with milliseconds."""
    found = {}
    for line in output.splitlines():
        name, *pairs, milliseconds = line.split("  ")
        assert float(milliseconds.removesuffix(" ms")) > 0
        found[name] = {pair.rpartition(" ")[0]: float(pair.rpartition(" ")[2]) for pair in pairs}
    return found


@pytest.mark.heavy
@pytest.mark.parametrize("quantize", ["none", "int8"])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_classify_answers_as_kcls_predict(trained, tmp_path, fit, quantize):
    model = make(trained, tmp_path / "model.tflite", Preprocess(8, fit, 1.0 if fit == "pad" else 0.9), quantize)
    photo = tmp_path / "photo.png"
    Image.fromarray(noise(40, 61)).save(photo)
    done = classify(model, photo)
    (expected,) = kcls.predict(model, [photo], top_k=3)
    labels = "  ".join(f"{name} {probability:.4f}" for name, probability in expected.labels)
    assert done.stdout.startswith(f"{photo}  {labels}  ") and done.returncode == 0


@pytest.mark.heavy
def test_classify_takes_folders_and_names_what_is_no_image(model, tmp_path):
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    good = tmp_path / "photos" / "deep" / "a.png", tmp_path / "photos" / "b.PNG", tmp_path / "c.png"
    for path in good:
        Image.fromarray(noise(9, 9)).save(path)
    (tmp_path / "photos" / "notes.txt").write_text("not an image, and not named as one")
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.png").write_bytes(KINDS["png"][: len(KINDS["png"]) // 2])
    bad = [tmp_path / name for name in ("text.jpg", "cut.png", "missing.png", "empty")]
    done = classify(model, tmp_path / "photos", *bad, "--threads", "2", "--top", "1", good[2])
    assert done.returncode == 1
    found = answers(done.stdout)
    assert sorted(found) == sorted(map(str, good)) and {len(labels) for labels in found.values()} == {1}
    assert [line.partition(": ")[0] for line in done.stderr.splitlines() if line.startswith("/")] == list(map(str, bad))


@pytest.mark.heavy
def test_classify_refuses_what_it_cannot_do_in_one_line(model, tmp_path):
    for arguments in ([model], [model, "x.png", "--camera", "0"], [model, "x.png", "--top", "0"]):
        done = classify(*arguments)
        assert done.returncode == 2 and "name images, or --camera alone" in done.stderr
    (tmp_path / "other.tflite").write_bytes(b"not a model")
    for other in ("other.tflite", "missing.tflite"):
        done = classify(tmp_path / other, "x.png")
        assert done.returncode == 1 and done.stderr.startswith(f"{tmp_path / other}: not a .tflite file of kcls export")
        assert done.stderr.count("\n") == 1


# Cameras whose every picture is a red square, as each library gives it.
OPENCV = """
import numpy
class VideoCapture:
    def __init__(self, number):
        self.left = 2 if number == 0 else 0
    def read(self):
        self.left -= 1
        return self.left >= 0, numpy.full((9, 9, 3), (0, 0, 255), "uint8") if self.left >= 0 else None
"""
PICAMERA2 = """
from PIL import Image
class Picamera2:
    def __init__(self, number):
        [0][number]
    def start(self):
        pass
    def capture_image(self):
        return Image.new("RGB", (9, 9), (255, 0, 0))
"""
ABSENT = "raise ImportError"


@pytest.mark.heavy
def test_a_camera_of_opencv_is_classified_until_it_ends(model, tmp_path):
    (tmp_path / "cv2.py").write_text(OPENCV)
    (tmp_path / "picamera2.py").write_text("raise SystemError('imported, though there is OpenCV')")
    red = tmp_path / "red.png"
    Image.new("RGB", (9, 9), (255, 0, 0)).save(red)
    done = classify(model, "--camera", "0", modules=tmp_path)
    assert done.returncode == 1 and "camera 0 gives no picture\n" in done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert answers(done.stdout)["camera 0"] == answers(classify(model, red).stdout)[str(red)]
    assert "camera 1 gives no picture\n" in classify(model, "--camera", "1", modules=tmp_path).stderr


@pytest.mark.heavy
def test_a_camera_of_a_raspberry_pi_is_classified_until_ctrl_c(model, tmp_path):
    (tmp_path / "cv2.py").write_text(ABSENT)
    (tmp_path / "picamera2.py").write_text(PICAMERA2)
    running = subprocess.Popen(
        [sys.executable, CLASSIFY, model, "--camera", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored if the tests run in the background
    )
    assert running.stdout.readline().startswith("camera 0  ")
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130 and "Traceback" not in errors
    done = classify(model, "--camera", "1", modules=tmp_path)
    assert done.returncode == 1 and "camera 1 cannot be opened: list index out of range\n" in done.stderr


@pytest.mark.heavy
def test_no_camera_library_is_asked_for_before_a_camera_is(model, tmp_path):
    for library in ("cv2", "picamera2"):
        (tmp_path / f"{library}.py").write_text(ABSENT)
    done = classify(model, "--camera", "0", modules=tmp_path)
    assert done.returncode == 1 and "--camera needs OpenCV or picamera2: pip install" in done.stderr
    (tmp_path / "cv2.py").write_text("raise SystemError('imported for a file')")
    Image.fromarray(noise(9, 9)).save(tmp_path / "a.png")
    assert classify(model, tmp_path / "a.png", modules=tmp_path).returncode == 0


@pytest.fixture(scope="module")
def cpp():
    """Skips where C++ cannot be built, which CI never does."""
    there = shutil.which("cmake") and shutil.which("g++") and (STB / "stb_image.h").exists()
    if not there and os.environ.get("CI") != "true":
        pytest.skip("apt-get install cmake g++ libstb-dev")
    assert there, "CI builds export/cpp: apt-get install cmake g++ libstb-dev"
    return ROOT / "export" / "cpp"


SQUARE = """
#include <cstdio>
#include "square.hpp"
int main(int, char** a) {
  const auto pixels = square(read_image(a[1]), {std::stoi(a[2]), a[3], std::stod(a[4]), a[5]});
  std::fwrite(pixels.data(), 1, pixels.size(), stdout);
}
"""


@pytest.fixture(scope="module")
def cpp_square(cpp, tmp_path_factory):
    """square.hpp alone: (image file, preprocessing) -> the square that it makes."""
    folder = tmp_path_factory.mktemp("square")
    (folder / "main.cpp").write_text(SQUARE)
    command = ["g++", "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{cpp}", "-isystem", STB]
    subprocess.run([*command, folder / "main.cpp", "-o", folder / "square"], check=True)

    def run(file: Path, how: Preprocess) -> np.ndarray:
        arguments = map(str, (file, how.image_size, how.fit, how.crop_fraction, how.interpolation))
        done = subprocess.run([folder / "square", *arguments], capture_output=True, check=True)
        return np.frombuffer(done.stdout, np.uint8).reshape(how.image_size, how.image_size, 3)

    return run


def difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.heavy
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_the_square_of_cpp_is_that_of_kcls(cpp_square, tmp_path, fit, interpolation):
    for shape in ((61, 40), (40, 61), (5, 200), (12, 12), (3, 2), (1, 1)):
        Image.fromarray(noise(*shape)).save(tmp_path / "a.png")
        for size in (1, 8, 12, 31):
            how = Preprocess(size, fit, 0.875, interpolation)
            # A compiler may fuse a multiplication and an addition, which moves what lies between two grey levels.
            assert difference(cpp_square(tmp_path / "a.png", how), how.pillow(read_image(tmp_path / "a.png"))) <= 1


@pytest.mark.heavy
def test_cpp_reads_every_jpeg_and_png_as_kcls_does(cpp_square, tmp_path):
    how = Preprocess(12, "crop", 0.9)
    files = {name: contents for name, contents in KINDS.items() if name.startswith(("jpeg", "png"))}
    for endian in "<>":
        for orientation in range(10):  # 0 and 9 are none
            exif = Image.Exif()
            exif.endian = endian
            exif[0x010F], exif[0x0112] = "a maker before the entry", orientation
            files[f"orientation_{orientation}{endian}"] = encoded(picture(), "JPEG", exif=exif.tobytes(), quality=95)
    for name, contents in files.items():
        (tmp_path / name).write_bytes(contents)
        far = difference(cpp_square(tmp_path / name, how), how.pillow(decode_pillow(contents, name)))
        # A PNG holds the pixels; of a JPEG, stb_image's decoder computes them a little differently than libjpeg.
        assert far <= (1 if "png" in name else 2), name


@pytest.fixture(scope="module")
def cpp_classify(cpp, tmp_path_factory):
    """The program of export/cpp, built as its README says."""
    import ai_edge_litert

    library = Path(ai_edge_litert.__file__).with_name("libLiteRt.so")
    folder = tmp_path_factory.mktemp("build")
    subprocess.run(["cmake", "-S", cpp, "-B", folder, f"-DLITERT_LIBRARY={library}"], check=True)
    subprocess.run(["cmake", "--build", folder], check=True)
    return lambda *arguments: subprocess.run([folder / "classify", *arguments], capture_output=True, text=True)


@pytest.mark.heavy
@pytest.mark.parametrize("quantize", ["none", "float16", "dynamic", "int8"])
def test_the_cpp_program_answers_as_the_python_program(cpp_classify, trained, tmp_path, quantize):
    model = make(trained, tmp_path / "model.tflite", Preprocess(8, "crop", 0.9), quantize)
    photos = tmp_path / "a.png", tmp_path / "b.jpg"
    Image.fromarray(noise(40, 61)).save(photos[0])
    photos[1].write_bytes(encoded(picture(), "JPEG", quality=90))
    mine, expected = (program("--top", "10", model, *photos) for program in (cpp_classify, classify))
    assert mine.returncode == expected.returncode == 0, mine.stderr
    mine, expected = answers(mine.stdout), answers(expected.stdout)
    assert mine.keys() == expected.keys() == set(map(str, photos))
    for photo in expected:
        assert mine[photo].keys() == expected[photo].keys() and len(mine[photo]) == 10
        # The JPEG decoders differ by a few grey levels, and an int8 score has steps of 1/256.
        assert max(abs(mine[photo][name] - p) for name, p in expected[photo].items()) <= 0.01


@pytest.mark.heavy
def test_the_cpp_program_names_what_it_cannot_read(cpp_classify, model, tmp_path):
    Image.fromarray(noise(9, 9)).save(tmp_path / "a.png")
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.jpg").write_bytes(KINDS["jpeg"][: len(KINDS["jpeg"]) // 2])
    (tmp_path / "cut.png").write_bytes(KINDS["png"][: len(KINDS["png"]) // 2])
    bad = [tmp_path / name for name in ("text.jpg", "cut.jpg", "cut.png", "missing.png")]
    done = cpp_classify(model, *bad, tmp_path / "a.png", "--top", "1")
    assert done.returncode == 1 and list(answers(done.stdout)) == [str(tmp_path / "a.png")]
    assert [line.partition(": ")[0] for line in done.stderr.splitlines() if line.startswith("/")] == list(map(str, bad))

    whole = model.read_bytes()
    for name, contents in {"cut.tflite": whole[:-300], "bare.tflite": whole[: whole.index(b"PK\3\4")]}.items():
        (tmp_path / name).write_bytes(contents)
        done = cpp_classify(tmp_path / name, tmp_path / "a.png")
        assert done.returncode == 1 and "was not made by kcls, or is damaged" in done.stderr
    for arguments in ([], [model], ["--top", "0", model, "a.png"], [model, "a.png", "--threads"]):
        assert cpp_classify(*arguments).returncode == 2
