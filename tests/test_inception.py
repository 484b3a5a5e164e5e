"""SE-BN-Inception and SE-Inception-ResNet-v2: written again from the papers and from the authors' Caffe network."""

import re

import keras
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy_reference import assert_close, np_conv, np_conv_norm, np_excite, relu, weights
from parity import import_timm, report
from tiny import build, images, jitter, logits, shared

from kcls.errors import RecipeError
from kcls.models import inception, inception_resnet


def np_convs(model, x, *names, stride=1):
    """Convolution, norm and ReLU of each name; the last has the stride."""
    for name in names:
        x = relu(np_conv_norm(model, x, name, stride if name == names[-1] else 1))
    return x


def np_windows(x, value, ends):
    """3x3 windows of a map with ``value`` around it, ``ends`` rows and columns before and behind: (..., 3, 3)."""
    x = np.pad(x, [(0, 0), ends, ends, (0, 0)], constant_values=value)
    return sliding_window_view(x, (3, 3), axis=(1, 2))


def np_average(x):
    """Caffe divides by 9 at the edge, too."""
    return np_windows(x, 0, (1, 1)).sum((4, 5)) / 9


def np_maximum(x):
    return np_windows(x, -np.inf, (1, 1)).max((4, 5))


def np_halving_maximum(x):
    """Caffe rounds the size up: on an even map the last window reaches one pixel past the edge."""
    return np_windows(x, -np.inf, (0, 1))[:, ::2, ::2].max((4, 5))


def np_module(model, x, name, pool):
    """A module with its squeeze-and-excitation; without ``pool`` it is one that halves the map."""
    stride = 1 if pool else 2
    branches = [
        np_convs(model, x, f"{name}_3x3_reduce", f"{name}_3x3", stride=stride),
        np_convs(model, x, f"{name}_double1_reduce", f"{name}_double1", f"{name}_double2", stride=stride),
    ]
    if pool:
        branches.insert(0, np_convs(model, x, f"{name}_1x1"))
        branches.append(np_convs(model, pool(x), f"{name}_pool_project"))
    else:
        branches.append(np_halving_maximum(x))
    return np.concatenate(branches, -1)


@pytest.mark.parametrize("ours, theirs", [(inception.average, np_average), (inception.maximum, np_maximum)])
def test_a_module_computes_what_the_authors_network_does(ours, theirs):
    image = keras.Input((6, 6, 4))
    model = jitter(keras.Model(image, inception.inception(image, (3, 4, 5, 6, 7, 8), ours, "m")))
    x = np.random.default_rng(1).normal(size=(2, 6, 6, 4))
    expected = np_module(model, x, "m", theirs)
    assert expected.shape == (2, 6, 6, 3 + 5 + 7 + 8)
    assert_close(logits(model, x.astype("float32")), expected)


def test_a_halving_module_computes_what_the_authors_network_does():
    image = keras.Input((6, 6, 4))
    model = jitter(keras.Model(image, inception.reduction(image, (3, 4, 5, 6), "m")))
    x = np.random.default_rng(1).normal(size=(2, 6, 6, 4))
    expected = np_module(model, x, "m", None)
    assert expected.shape == (2, 3, 3, 4 + 6 + 4)
    assert_close(logits(model, x.astype("float32")), expected)


def with_statistics_of(model, x):
    """The model with the moving statistics of ``x``: with others the images' differences fade on the way."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(x, training=True)
    return model


def test_se_bn_inception_computes_what_the_authors_network_does():
    model = jitter(build("se_bn_inception", image_size=64))  # its maps are even down to the last, as at 224 px
    x = images(model)
    model = with_statistics_of(model, images(model, 16, seed=1))
    y = np_halving_maximum(np_convs(model, x / 127.5 - 1, "stem1", stride=2))
    y = np_halving_maximum(np_convs(model, y, "stem2_reduce", "stem2"))
    for module in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        pool = {"3c": None, "4e": None, "5b": np_maximum}.get(module, np_average)
        y = np_module(model, y, f"inception{module}", pool)
        y = np_excite(model, y, f"inception{module}_se")
    assert y.shape[1:3] == (2, 2)
    kernel, bias = weights(model, "head")
    # The longest path has 34 convolutions; each rounds sums of up to some hundred products at 6e-8.
    report("se_bn_inception", logits(model, x), y.mean((1, 2)) @ kernel + bias, "NumPy", 1e-4)


def test_se_bn_inception_takes_odd_images():
    model = build("se_bn_inception", image_size=65)
    assert model.get_layer("stem1_pool").output.shape[1] == 17  # 65, 33, 17, 9, 5, 3: every map is odd
    assert model.get_layer("inception5b_concat").output.shape[1] == 3


UNITS = {
    "stage1": (inception_resnet.STAGE1, [[(1, 1)], [(1, 1), (3, 3)], [(1, 1), (3, 3), (3, 3)]]),
    "stage2": (inception_resnet.STAGE2, [[(1, 1)], [(1, 1), (1, 7), (7, 1)]]),
    "stage3": (inception_resnet.STAGE3, [[(1, 1)], [(1, 1), (1, 3), (3, 1)]]),
}


@pytest.mark.parametrize("act", [True, False])
@pytest.mark.parametrize("table, kernels", UNITS.values(), ids=UNITS)
def test_a_residual_is_excited_then_scaled_then_added(table, kernels, act):
    image = keras.Input((8, 8, 6))
    small = inception_resnet.unit(image, table, 0.3, act, 0.5, lambda *widths: tuple(w // 16 for w in widths), "u")
    model = jitter(keras.Model(image, small))
    x = np.random.default_rng(1).normal(size=(2, 8, 8, 6))
    outputs = []
    for i, sizes in enumerate(kernels, 1):
        y = x
        for j, (h, w) in enumerate(sizes, 1):
            (kernel,) = weights(model, f"u_branch{i}_{j}_conv")
            gamma, beta, mean, variance = weights(model, f"u_branch{i}_{j}_norm")
            assert kernel.shape[:2] == (h, w)
            padded = np.pad(y, [(0, 0), (h // 2, h // 2), (w // 2, w // 2), (0, 0)])
            y = relu(gamma * (np_conv(padded, kernel) - mean) / np.sqrt(variance + 1e-3) + beta)
        outputs.append(y)
    kernel, bias = weights(model, "u_project")
    y = x + 0.3 * np_excite(model, np.concatenate(outputs, -1) @ kernel[0, 0] + bias, "u_se")
    assert_close(logits(model, x.astype("float32")), relu(y) if act else y)


def test_the_last_unit_of_inception_resnet_adds_its_whole_residual_and_has_no_relu():
    names = [layer.name for layer in shared("se_inception_resnet_v2").layers]
    assert "stage2_unit2_relu" in names
    assert "stage3_unit1_relu" not in names


@pytest.mark.parametrize("label", ["se_bn_inception", "se_inception_resnet_v2"])
def test_a_squeeze_to_nothing_is_refused(label):
    with pytest.raises(RecipeError, match="squeeze-and-excitation leaves nothing of"):
        build(label, se_ratio=0.01)


def test_a_stage_without_units_is_refused():
    with pytest.raises(RecipeError, match="the number of units of a stage is 1 or more, not 0"):
        build("se_inception_resnet_v2", units=0)


# Our layers -> timm's modules of inception_resnet_v2; convolutions and norms have the same prefix.
STEM = {
    "stem1": "conv2d_1a",
    "stem2": "conv2d_2a",
    "stem3": "conv2d_2b",
    "stem4": "conv2d_3b",
    "stem5": "conv2d_4a",
    "stem6_pool_project": "mixed_5b.branch3.1",
    "last": "conv2d_7b",
}
MODULES = {"stem6": "mixed_5b", "stage2_reduction": "mixed_6a", "stage3_reduction": "mixed_7a"}
REPEATS = {"1": ("repeat", 10), "2": ("repeat_1", 20), "3": ("repeat_2", 9)}


def timm_name(path):
    """The tensor of timm's network, with ``se.fc1`` and ``se.fc2`` in each residual block."""
    layer, variable = path.split("/")
    suffix = {
        "kernel": "weight",
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }.get(variable, variable)
    if layer == "head":
        return f"classif.{suffix}"
    module, _, part = layer.rpartition("_")
    if module in STEM:
        return f"{STEM[module]}.{'bn' if part == 'norm' else part}.{suffix}"
    stage, _, rest = layer.partition("_unit")
    if rest:
        unit, _, rest = rest.partition("_")
        repeat, count = REPEATS[stage[-1]]
        block = f"{repeat}.{int(unit) - 1}" if int(unit) <= count else "block8"
        parts = {"project": "conv2d", "se_reduce": "se.fc1", "se_expand": "se.fc2"}
        if rest in parts:
            return f"{block}.{parts[rest]}.{suffix}"
    else:
        block, rest = next((MODULES[m], layer[len(m) + 1 :]) for m in MODULES if layer.startswith(m))
    branch, number, part = rest.split("_")
    return f"{block}.branch{int(branch[-1]) - 1}.{int(number) - 1}.{'bn' if part == 'norm' else part}.{suffix}"


@pytest.mark.parity
def test_se_inception_resnet_v2_gives_the_logits_of_timms_network_with_excited_residuals():
    timm = import_timm()
    import torch
    from test_parity_timm import redraw

    from kcls.models import create_model

    class Excited(torch.nn.Module):
        """A 1x1 convolution, then squeeze-and-excitation as in section 3 of the paper."""

        def __init__(self, conv):
            super().__init__()
            channels = conv.out_channels
            self.conv = conv
            self.fc1, self.fc2 = (torch.nn.Linear(channels, channels // 16), torch.nn.Linear(channels // 16, channels))

        def forward(self, x):
            x = self.conv(x)
            return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3))))))[:, :, None, None]

    theirs = timm.create_model("inception_resnet_v2")
    for block in [*theirs.repeat, *theirs.repeat_1, *theirs.repeat_2, theirs.block8]:
        block.conv2d = Excited(block.conv2d)
    ours = create_model("se_inception_resnet_v2", num_classes=1000)
    x = images(ours)
    theirs_x = torch.from_numpy((x / 127.5 - 1).transpose(0, 3, 1, 2).copy())
    theirs = redraw(theirs, theirs_x)
    tensors = {
        k.replace("conv2d.conv.", "conv2d.").replace("conv2d.fc", "se.fc"): v.numpy()
        for k, v in theirs.state_dict().items()
        if not k.endswith("num_batches_tracked")
    }
    for weight in ours.weights:
        layer = weight.path.split("/")[0]
        name = timm_name(weight.path)
        # timm has no index in a branch of one convolution: branch0.conv, not branch0.0.conv.
        tensor = tensors.pop(name if name in tensors else re.sub(r"(branch\d)\.0\.", r"\1.", name))
        if weight.path.endswith("kernel"):
            tensor = tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T
            tensor = tensor[None, None] if "_se_" in layer else tensor
        weight.assign(tensor)
    assert not tensors
    with torch.inference_mode():
        expected = theirs(theirs_x).numpy()
    # Float32 rounding along some 240 convolutions; a wrong factor of the residual or epsilon costs .01 and more.
    report("se_inception_resnet_v2", logits(ours, x), expected, f"timm {timm.__version__} and PyTorch", 1e-3)
