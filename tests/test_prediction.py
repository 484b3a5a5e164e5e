"""Prediction: every image is answered, with labels or with the reason."""

import io

import numpy as np
import pytest
from PIL import Image

import kcls
from kcls.artifact import SquareClassifier
from kcls.data.preprocess import Preprocess
from kcls.errors import RecipeError
from kcls.prediction import predict


class Brightness(SquareClassifier):
    """Says how bright an image is; stands for any artifact."""

    class_names = ("dark", "medium", "bright")
    preprocess = Preprocess(4)

    def probabilities(self, prepared):
        light = np.stack(prepared).mean((1, 2, 3)) / 255
        return np.stack([1 - light, 0 * light, light], -1).astype(np.float32)


@pytest.fixture
def images(tmp_path):
    """A folder with two grey images, a text in the guise of an image, and a subfolder with one more."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for name, grey in (("a.png", 0), ("b.jpg", 255), ("more/c.bmp", 51)):
        Image.new("RGB", (9, 5), (grey,) * 3).save(folder / name)
    (folder / "bad.jpg").write_text("not an image")
    (folder / "notes.txt").write_text("no image either")
    return folder


def answers(*found, top_k=1) -> list:
    return [(p.image.rsplit("/", 1)[1], p.labels[0][0] if p.labels else p.error) for p in predict(Brightness(), found)]


def test_a_folder_is_searched_and_a_bad_image_does_not_stop_the_rest(images):
    assert answers(images) == [
        ("a.png", "dark"),
        ("b.jpg", "bright"),
        ("bad.jpg", "not an image (JPEG, PNG, BMP, GIF, WEBP are read)"),
        ("c.bmp", "dark"),
    ]


def test_files_globs_and_what_is_not_there_are_answered_in_order(images):
    found = answers(images / "b.jpg", f"{images}/*.png", images / "none.png", f"{images}/*.gif")
    assert found == [
        ("b.jpg", "bright"),
        ("a.png", "dark"),
        ("none.png", "No such file or directory"),
        ("*.gif", "no file matches the pattern"),
    ]


def test_one_path_is_one_image_and_no_sequence_of_letters(images):
    for path in (images / "b.jpg", str(images / "b.jpg")):
        assert [p.labels[0][0] for p in predict(Brightness(), path)] == ["bright"]


def test_bytes_pixels_and_pillow_images_are_answered_too(images):
    contents = (images / "b.jpg").read_bytes()
    white, grey = np.full((5, 9, 3), 255, np.uint8), Image.new("LA", (9, 5), (51, 0))
    found = list(predict(Brightness(), [contents, white, grey, b"text", white.astype(float)], top_k=1))
    assert [p.image for p in found] == [f"image {i}" for i in range(1, 6)]
    assert [p.labels[0][0] for p in found[:3]] == ["bright", "bright", "dark"]
    assert found[3].error.startswith("not an image")
    assert found[4].error == "pixels are uint8 (H, W, 3), not float64 (5, 9, 3)"
    assert [len(list(predict(Brightness(), many))) for many in (white, np.stack([white, white]), contents)] == [1, 2, 1]


def test_what_is_no_image_is_refused(images):
    with pytest.raises(RecipeError, match="image 2 is a int, not a path, bytes or pixels"):
        list(predict(Brightness(), [images / "a.png", 3]))


def test_an_image_is_read_from_standard_input(images, monkeypatch):
    with open(images / "b.jpg", "rb") as file:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
        (prediction,) = predict(Brightness(), "-")
    assert (prediction.image, prediction.labels[0][0]) == ("standard input", "bright")


def test_a_folder_without_images_is_an_error_not_silence(tmp_path):
    (prediction,) = predict(Brightness(), [tmp_path])
    assert prediction.error.startswith("the folder holds no image")


def test_a_file_whose_name_has_glob_characters_is_taken_as_it_is(images):
    (images / "a.png").rename(images / "a[1].png")
    assert answers(images / "a[1].png") == [("a[1].png", "dark")]


def test_labels_come_with_probabilities_the_highest_first(images):
    (prediction,) = predict(Brightness(), [images / "more" / "c.bmp"], top_k=2)
    assert prediction.labels == (("dark", pytest.approx(0.8)), ("bright", pytest.approx(0.2)))
    (all_of_them,) = predict(Brightness(), [images / "a.png"], top_k=99)
    assert len(all_of_them.labels) == 3
    with pytest.raises(RecipeError, match="top_k must be 1 or more"):
        predict(Brightness(), [images], top_k=0)


def test_more_images_than_a_batch_are_all_answered(images, monkeypatch):
    monkeypatch.setattr(Brightness, "batch_size", 3)
    assert len(answers(*[images / "a.png"] * 7)) == 7


def test_a_run_predicts_what_its_evaluation_saw(trained, tmp_path):
    data, names = kcls.load_data(trained.recipe, "test")
    squares = np.concatenate([x.numpy() for x, _ in data])[:5]
    for i, square in enumerate(squares):
        Image.fromarray(square).save(tmp_path / f"{i}.png")
    expected = __import__("keras").models.load_model(trained.model_file).predict(squares, verbose=0).argmax(-1)
    found = [p.labels[0][0] for p in kcls.predict(trained, sorted(tmp_path.glob("*.png")))]
    assert found == [names[i] for i in expected]
