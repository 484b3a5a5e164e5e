"""One resize for every part: the TensorFlow and the Pillow execution agree, and show the right part."""

import numpy as np
import pytest
from PIL import Image

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
