"""BiT: the standardised convolution, and what its stem and head do; the whole network is compared with timm."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.lib.stride_tricks import sliding_window_view
from numpy_reference import np_conv, relu, weights
from tiny import build, images, jitter, logits, shared

from kcls.models.bit import unit
from kcls.models.layers import StdConv2D


def standardised(kernel, epsilon=1e-10):
    """Mean 0 and variance 1 of each output channel, in float64."""
    kernel = kernel.astype("float64")
    mean, variance = kernel.mean((0, 1, 2)), kernel.var((0, 1, 2))
    return (kernel - mean) / np.sqrt(variance + epsilon)


def layer_of(kernel, **arguments):
    """A standardised convolution with that kernel."""
    layer = StdConv2D(kernel.shape[-1], kernel.shape[:2], use_bias=False, **arguments)
    layer.build((None, 6, 6, kernel.shape[2]))
    layer.set_weights([kernel])
    return layer


def kernel_and_map(seed=0, scale=1.0, mean=0.0):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(mean, scale, (3, 3, 4, 5)).astype("float32")
    return kernel, rng.normal(size=(2, 6, 6, 4)).astype("float32")


# With a deviation of 1e-5 the authors' epsilon is as large as the variance; timm's 1e-8 would be a hundred times it.
@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_the_kernel_is_standardised_over_all_but_the_output_channels(scale):
    kernel, x = kernel_and_map(scale=scale)
    expected = np_conv(x, standardised(kernel))
    ours = keras.ops.convert_to_numpy(layer_of(kernel)(x))
    assert np.abs(ours - expected).max() < 1e-5 * np.abs(expected).max()  # float32 sums of 36 products


def test_scale_and_mean_of_the_kernel_do_not_matter():
    kernel, x = kernel_and_map()
    a, b = (keras.ops.convert_to_numpy(layer_of(k)(x)) for k in (kernel, 7 * kernel + 3))
    assert np.abs(a - b).max() < 1e-4 * np.abs(a).max()  # 7 k + 3 is rounded at 6e-7, a tenth of that of k's deviation


def test_mixed_precision_standardises_in_float32():
    kernel, x = kernel_and_map(mean=10.0)  # in bfloat16 these are 256 steps of 0.06: the deviation would be lost
    layer = layer_of(kernel, dtype="mixed_bfloat16")
    ours = keras.ops.convert_to_numpy(keras.ops.cast(layer(x), "float32"))
    assert layer(x).dtype == "bfloat16"
    expected = np_conv(x, standardised(kernel))
    assert np.abs(ours - expected).max() < 0.02 * np.abs(expected).max()  # bfloat16 has 8 bits


def test_the_kernel_is_a_constant_in_tflite():
    image = keras.Input((6, 6, 4), batch_size=1)
    kernel, x = kernel_and_map()
    model = keras.Model(image, layer_of(kernel)(image))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    interpreter = Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    assert [op["op_name"] for op in interpreter._get_ops_details() if op["op_name"] != "DELEGATE"] == ["CONV_2D"]
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x[:1])
    interpreter.invoke()
    ours = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert np.abs(ours - logits(model, x[:1])).max() < 1e-5 * np.abs(ours).max()  # float32 sums in another order


def np_group_norm_relu(model, x, groups, name):
    """Wu and He 2018: each group of neighbouring channels of a sample is normalised over its map."""
    gamma, beta = weights(model, f"{name}_norm")
    grouped = x.reshape(*x.shape[:3], groups, -1)
    mean, variance = (f(grouped, axis=(1, 2, 4), keepdims=True) for f in (np.mean, np.var))
    return relu(((grouped - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape) * gamma + beta)


def np_unit(model, x, stride, project, groups, name):
    """Norm and ReLU before every convolution; the projection, too, reads what they give."""
    a = y = np_group_norm_relu(model, x, groups, f"{name}_1")
    for i in (1, 2, 3):
        y = np_group_norm_relu(model, y, groups, f"{name}_{i}") if i > 1 else y
        (kernel,) = weights(model, f"{name}_{i}_conv")
        y = np_conv(y, standardised(kernel), stride if i == 2 else 1, kernel.shape[0] // 2)
    if not project:
        return x + y
    (kernel,) = weights(model, f"{name}_shortcut_conv")
    return np_conv(a, standardised(kernel), stride) + y


def close(ours, expected):
    """Equal up to float32: sums of up to some hundred products that are rounded at 6e-8, divided by deviations."""
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("stride, project", [(1, False), (1, True), (2, True)])
def test_a_unit_computes_what_the_paper_says(stride, project):
    image = keras.Input((9, 9, 16))
    model = jitter(keras.Model(image, unit(image, 4, stride, project, 2, "u")))
    x = np.random.default_rng(1).normal(size=(2, 9, 9, 16))
    close(logits(model, x.astype("float32")), np_unit(model, x, stride, project, 2, "u"))


def test_the_whole_network_computes_what_the_paper_says():
    model = shared("bit")
    x = images(model)
    (kernel,) = weights(model, "stem_conv")
    y = np.pad(np_conv(x / 127.5 - 1, standardised(kernel), 2, 3), [(0, 0), (1, 1), (1, 1), (0, 0)])  # zeros
    y = sliding_window_view(y, (3, 3), axis=(1, 2))[:, ::2, ::2].max((4, 5))
    for stage, depth in enumerate((3, 4, 6, 3), 1):
        for u in range(1, depth + 1):
            y = np_unit(model, y, 2 if stage > 1 and u == 1 else 1, u == 1, 2, f"stage{stage}_unit{u}")
    kernel, bias = weights(model, "head")
    close(logits(model, x), np_group_norm_relu(model, y, 2, "last").mean((1, 2)) @ kernel + bias)


def test_zeros_around_the_stem_can_be_the_maximum():
    model = build("bit")
    pooled = keras.Model(model.get_layer("stem_pool_pad").input, model.get_layer("stem_pool").output)
    answer = logits(pooled, np.full((1, 16, 16, 4), -1.0, "float32"))
    assert (answer[:, 0] == 0).all() and (answer[:, :, 0] == 0).all()
    assert (answer[:, 1:, 1:] == -1).all()


def test_an_untrained_network_answers_zero():
    model = build("bit")
    assert not logits(model, images(model)).any()


def test_a_width_that_the_groups_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple"):
        build("bit", num_groups=3)
