"""Random changes depend on (seed, epoch, index) only, and do what they are called."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kcls.data.augment import random_resized_crop, training_view
from kcls.data.preprocess import Preprocess
from kcls.sections import AugmentSection

IMAGE = np.random.default_rng(0).integers(1, 256, (16, 16, 3), dtype=np.uint8)


def changed(count: int = 64, seed: int = 0, epoch: int = 0, **options) -> np.ndarray:
    section = AugmentSection(**{"flip": False, **options})
    return np.stack([view(IMAGE, section, seed, epoch, i) for i in range(count)])


def view(image, section: AugmentSection, seed: int, epoch: int, index: int):
    """What the network sees of a square."""
    numbers = tf.constant(epoch, tf.int64), tf.constant(index, tf.int64)
    return training_view(tf.constant(image), Preprocess(image.shape[0]), section, seed, *numbers).numpy()


def test_nothing_asked_nothing_changed():
    assert (changed(4) == IMAGE).all()


def test_flip_false_never_mirrors():
    mirrored = IMAGE[:, ::-1]
    assert not any((image == mirrored).all() for image in changed(crop_padding=0, rotation=0))


def test_flip_mirrors_about_half_of_the_images():
    images = changed(400, flip=True)
    mirrored = sum((image == IMAGE[:, ::-1]).all() for image in images)
    untouched = sum((image == IMAGE).all() for image in images)
    assert mirrored + untouched == 400
    assert 150 < mirrored < 250  # 5 standard deviations of a fair coin


def test_crop_padding_shifts_to_every_place_equally_often():
    places = np.zeros((3, 3), int)
    padded = np.pad(IMAGE, ((1, 1), (1, 1), (0, 0)))
    for image in changed(900, crop_padding=1):
        hits = [(y, x) for y in range(3) for x in range(3) if (image == padded[y : y + 16, x : x + 16]).all()]
        assert len(hits) == 1
        places[hits[0]] += 1
    assert places.min() > 50 and places.max() < 150  # 100 each, standard deviation 9.4


def test_rotation_and_scale_move_the_pixels_but_keep_the_centre():
    images = changed(32, rotation=10, scale=0.1).astype(int)
    assert all((image != IMAGE).any() for image in images)
    smooth = AugmentSection(flip=False, rotation=45.0, scale=0.2)
    disc = np.hypot(*(np.mgrid[0:16, 0:16] - 7.5))[..., np.newaxis].repeat(3, -1)
    disc = np.where(disc < 4, 255, 0).astype(np.uint8)
    for i in range(20):
        turned = view(disc, smooth, 0, 0, i)
        y, x = (np.indices((16, 16)) * turned[..., 0]).sum((1, 2)) / turned[..., 0].sum()
        assert abs(y - 7.5) < 0.2 and abs(x - 7.5) < 0.2  # the centre of mass stays, but for the sampling of pixels
        area = turned[..., 0].sum() / disc[..., 0].sum()
        assert 0.8**2 - 0.1 < area < 1.2**2 + 0.1


@pytest.mark.parametrize("options", [{"flip": True}, {"crop_padding": 4}, {"rotation": 30, "scale": 0.3}])
def test_the_same_seed_epoch_and_index_give_the_same_image(options):
    assert (changed(8, 3, 5, **options) == changed(8, 3, 5, **options)).all()


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}])
def test_another_seed_or_epoch_gives_another_image(other):
    assert (changed(16, crop_padding=4) != changed(16, crop_padding=4, **other)).any()


def test_two_images_of_an_epoch_are_changed_differently():
    assert len({image.tobytes() for image in changed(32, rotation=30)}) == 32


def encoded(image: np.ndarray, kind: str) -> tf.Tensor:
    contents = io.BytesIO()
    Image.fromarray(image).save(contents, kind, **({"quality": 98, "subsampling": 0} if kind == "JPEG" else {}))
    return tf.constant(contents.getvalue())


def boxes(area: tuple[float, float], kind: str = "PNG", count: int = 60, shape=(120, 200), size: int = 32):
    """Height and width of the random boxes of an image, as fractions of its own, read off its gradients."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    ramps = np.stack([x * 255 / (shape[1] - 1), y * 255 / (shape[0] - 1), np.zeros(shape)], -1)
    contents = encoded(np.rint(ramps).astype(np.uint8), kind)
    squares = [
        random_resized_crop(contents, size, area, tf.constant([7, i])).numpy().astype(float) for i in range(count)
    ]
    slopes = [(s[:, -1, 0].mean() - s[:, 0, 0].mean(), s[-1, :, 1].mean() - s[0, :, 1].mean()) for s in squares]
    # The centres of the first and last of ``size`` pixels lie (size - 1) / size of the box apart.
    return np.array([(down / 255, across / 255) for across, down in slopes]) * size / (size - 1), squares


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_random_box_has_an_area_and_a_shape_within_their_ranges(kind):
    found, _ = boxes((0.1, 0.5), kind)
    areas = found.prod(1)
    ratios = found[:, 1] * 200 / (found[:, 0] * 120)
    # Whole pixels of the image, and whole grey levels of its ramps: 2 % and 3 % of the smallest boxes.
    assert areas.min() > 0.1 * 0.95 and areas.max() < 0.5 * 1.05
    assert ratios.min() > 3 / 4 * 0.95 and ratios.max() < 4 / 3 * 1.05
    assert areas.std() > 0.08 and ratios.std() > 0.08  # spread over the ranges


def test_a_random_box_shows_every_part_of_the_image():
    _, squares = boxes((0.08, 0.2))
    centres = np.array([square[16, 16, :2] for square in squares]) / 255
    assert (centres.min(0) < 0.3).all() and (centres.max(0) > 0.7).all()


def test_a_box_of_the_whole_image_is_the_whole_image():
    image = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    square = random_resized_crop(encoded(image, "PNG"), 12, (1.0, 1.0), tf.constant([0, 0])).numpy()
    assert (square == image).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_box_much_larger_than_the_square_is_averaged_not_skipped_over(kind):
    checkers = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)[..., np.newaxis].repeat(3, -1)
    for i in range(8):
        square = random_resized_crop(encoded(checkers, kind), 16, (0.5, 1.0), tf.constant([3, i])).numpy()
        assert np.abs(square[1:-1, 1:-1].astype(int) - 127.5).max() < 12  # skipped over, it is black and white


def test_a_random_box_depends_on_seed_epoch_and_index_only():
    section = AugmentSection(flip=True, random_resized_crop=(0.08, 1.0))
    contents = encoded(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8), "JPEG")

    def square(seed, epoch, index):
        numbers = tf.constant(epoch, tf.int64), tf.constant(index, tf.int64)
        return training_view(contents, Preprocess(16), section, seed, *numbers).numpy().tobytes()

    assert square(1, 2, 3) == square(1, 2, 3)
    assert len({square(1, 2, 3), square(0, 2, 3), square(1, 0, 3), square(1, 2, 0)}) == 4
