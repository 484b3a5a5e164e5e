"""The networks with squeeze-and-excitation: the unit of the paper, and what the authors' Caffe networks do."""

import keras
import numpy as np
import pytest
from numpy_reference import assert_close, np_conv_norm, np_excite, relu, weights
from tiny import build, images, jitter, logits

from kcls.errors import RecipeError
from kcls.models.registry import get_variant
from kcls.models.resnet import bottleneck, bottleneck_v1, projection_where_needed, unit
from kcls.models.senet import excited, projection_3x3, stem_7x7_v1


@pytest.mark.parametrize("shortcut", [projection_where_needed, projection_3x3])
@pytest.mark.parametrize("residual, strides", [(bottleneck, (1, 2, 1)), (bottleneck_v1, (2, 1, 1))])
@pytest.mark.parametrize("stride, channels", [(1, 16), (2, 16), (1, 8)])
def test_a_unit_is_excited_after_its_last_norm_and_before_the_addition(residual, strides, shortcut, stride, channels):
    image = keras.Input((9, 9, channels))
    model = jitter(keras.Model(image, unit(image, excited(residual, 0.25), shortcut, 4, stride, 0.0, "u")))
    x = y = np.random.default_rng(1).normal(size=(2, 9, 9, channels))
    for i, s in enumerate(strides, 1):
        y = np_conv_norm(model, y, f"u_{i}", min(s, stride))
        y = relu(y) if i < 3 else y
    y = np_excite(model, y, "u_se")
    same = x if x.shape == y.shape else np_conv_norm(model, x, "u_shortcut", stride)
    assert_close(logits(model, x.astype("float32")), relu(same + y))
    if same is not x:
        wide = shortcut is projection_3x3 and stride == 2
        assert weights(model, "u_shortcut_conv")[0].shape[0] == (3 if wide else 1)


def caffe_pool(x):
    """3 x 3 windows, 2 apart, from the first pixel to behind the last one."""
    starts = range(0, max(x.shape[1] - 1, 1), 2)
    return np.stack([np.stack([x[:, i : i + 3, j : j + 3].max((1, 2)) for j in starts], 1) for i in starts], 1)


@pytest.mark.parametrize("size", [6, 8, 10, 12, 14, 28])  # 3 to 14 pixels behind the first convolution
def test_the_first_pool_of_the_caffe_networks_reaches_past_the_edge(size):
    image = keras.Input((size, size, 3))
    model = jitter(keras.Model(image, stem_7x7_v1(image, 4)))
    before = keras.Model(image, model.get_layer("stem_relu").output)
    x = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("float32")
    expected = caffe_pool(logits(before, x))
    assert expected.shape[1] == -(-(size // 2 - 3) // 2) + 1  # Caffe's formula rounds up
    assert np.array_equal(logits(model, x), expected)


@pytest.mark.parametrize("size", [8, 33])
def test_a_caffe_network_takes_the_smallest_and_odd_images(size):
    model = build("seresnet_v1", image_size=size)
    assert np.isfinite(logits(model, images(model))).all()


def test_senet154_alone_drops_features_before_its_head():
    assert {name: get_variant(name).drop_rate for name in ("senet154", "seresnext101_32x4d", "seresnet152_v1")} == {
        "senet154": 0.2,
        "seresnext101_32x4d": 0.0,
        "seresnet152_v1": 0.0,
    }


def test_a_squeeze_to_nothing_is_refused():
    with pytest.raises(RecipeError, match="squeeze-and-excitation leaves nothing of 16 channels"):
        build("seresnet", se_ratio=0.05)
