"""One resize for every part: the TensorFlow and the Pillow execution agree, and show the right part."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFilter

from kcls.data.decode import decode_tensor
from kcls.data.preprocess import PAD_VALUE, Preprocess


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(8, 8), (17, 40), (233, 97), (64, 64), (1, 5)])
@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_both_executions_agree(shape, fit, interpolation):
    fraction = 1.0 if fit == "pad" else 0.8
    preprocess = Preprocess(32, fit, fraction, interpolation)
    image = noise(*shape)
    difference = preprocess.pillow(Image.fromarray(image)).astype(int) - preprocess.tensor(image).numpy()
    # Where an enlarged image falls on .5 exactly, sums in another order round to the other side.
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.05


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_an_image_of_the_right_size_is_left_alone(fit):
    image = noise(24, 24)
    assert (Preprocess(24, fit).tensor(image).numpy() == image).all()
    assert (Preprocess(24, fit).pillow(Image.fromarray(image)) == image).all()


def test_crop_takes_the_centre():
    image = np.zeros((30, 90, 3), np.uint8)
    image[:, 30:60] = 200
    assert (Preprocess(30, "crop").tensor(image).numpy() == 200).all()


def test_crop_fraction_leaves_the_border_out():
    image = np.zeros((40, 40, 3), np.uint8)
    image[10:30, 10:30] = 200
    assert (Preprocess(20, "crop", 0.5).tensor(image).numpy() == 200).all()


def test_pad_keeps_the_shape_and_fills_with_grey():
    image = np.full((10, 20, 3), 200, np.uint8)
    square = Preprocess(20, "pad").tensor(image).numpy()
    assert (square[5:15] == 200).all() and (square[:5] == PAD_VALUE).all() and (square[15:] == PAD_VALUE).all()


def test_stretch_shows_everything():
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, 20:] = 200
    square = Preprocess(10, "stretch").tensor(image).numpy()
    assert (square[:, 0] == 0).all() and (square[:, -1] == 200).all()


def test_shrinking_averages_instead_of_skipping():
    checkers = np.indices((64, 64)).sum(0)[..., np.newaxis].repeat(3, -1) % 2 * 255
    square = Preprocess(8).tensor(checkers).numpy()
    assert np.abs(square[1:-1, 1:-1].astype(int) - 127.5).max() <= 1  # half black, half white


@pytest.mark.parametrize("shape", [(90, 130), (131, 77), (40, 41)])
@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_jpeg_is_decoded_only_where_it_is_shown_and_gives_the_same_square(shape, fit, interpolation):
    photo = Image.fromarray(noise(*shape)).filter(ImageFilter.GaussianBlur(1))
    contents = io.BytesIO()
    photo.save(contents, "JPEG", quality=90)
    preprocess = Preprocess(32, fit, 1.0 if fit == "pad" else 0.7, interpolation)
    square = preprocess.view(tf.constant(contents.getvalue())).numpy()
    expected = preprocess.tensor(decode_tensor(contents.getvalue())).numpy()
    # The same kernel on the same pixels, whose places are rounded otherwise where they count from another corner.
    assert np.abs(square.astype(int) - expected).max() <= 1
    assert (square != expected).mean() < 0.01


def test_a_jpeg_that_ends_below_what_is_shown_is_still_an_error():
    contents = io.BytesIO()
    Image.fromarray(noise(120, 100)).save(contents, "JPEG")
    whole = contents.getvalue()
    with pytest.raises(tf.errors.InvalidArgumentError):
        Preprocess(16, crop_fraction=0.5).view(tf.constant(whole[: int(len(whole) * 0.95)]))
