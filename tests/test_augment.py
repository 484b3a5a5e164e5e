"""Random changes depend on (seed, epoch, index) only, and do what they are called."""

import numpy as np
import pytest
import tensorflow as tf

from kcls.data.augment import augment
from kcls.sections import AugmentSection

IMAGE = np.random.default_rng(0).integers(1, 256, (16, 16, 3), dtype=np.uint8)


def changed(count: int = 64, seed: int = 0, epoch: int = 0, **options) -> np.ndarray:
    section = AugmentSection(**{"flip": False, **options})
    return np.stack([augment(tf.constant(IMAGE), section, seed, epoch, tf.constant(i, tf.int64)) for i in range(count)])


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
        turned = augment(tf.constant(disc), smooth, 0, 0, tf.constant(i, tf.int64)).numpy()
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
