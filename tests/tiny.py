"""One small row per kind of architecture, over which the property tests are parametrised."""

import functools

import keras
import numpy as np
import pytest

from kcls.models import create_model
from kcls.models.registry import get_variant

NUM_CLASSES = 5

# Label -> arguments of create_model. test_models_table.py fails when a builder, block or shortcut has no row.
TINY = {
    "alexnet": dict(name="alexnet", image_size=99, width=6, fc_width=16),
    "vgg": dict(name="vgg11", image_size=64, width=4, fc_width=16),
    "vgg_bn": dict(name="vgg16_bn", image_size=64, width=4, fc_width=16),
    "googlenet": dict(name="googlenet", image_size=80, width_multiplier=0.125),
    "prelunet": dict(name="prelunet_a", image_size=80, width_multiplier=1 / 32, fc_width=16),
    "plain": dict(name="plain18", image_size=32, width=4),
    "basic_a": dict(name="resnet34_a", image_size=32, width=4),
    "basic_b": dict(name="resnet18", image_size=32, width=4),
    "basic_c": dict(name="resnet34_c", image_size=32, width=4),
    "bottleneck": dict(name="resnet50", image_size=32, width=4),
    "bottleneck_v1": dict(name="resnet50_v1", image_size=32, width=4),
    "cifar": dict(name="resnet20", image_size=16, units=1, width=4),
    "cifar_drop_path": dict(name="resnet20", image_size=16, units=2, width=4, drop_path_rate=0.2),
    "cifar_zero_init": dict(name="resnet110", image_size=16, units=1, width=4),
    "deit": dict(name="deit_tiny", image_size=32, depth=2, width=8, num_heads=2),
    "deit_distilled": dict(name="deit_tiny_distilled", image_size=32, depth=2, width=8, num_heads=2),
    "densenet": dict(name="densenet121", image_size=32, growth_rate=4),
    "densenet_cifar": dict(name="densenet_40_12", image_size=8, units=2, growth_rate=4),
    "densenet_cifar_bc": dict(name="densenet_bc_100_12", image_size=8, units=2, growth_rate=4),
    "densenet_cifar_drop": dict(name="densenet_40_12", image_size=8, units=2, growth_rate=4, block_drop_rate=0.2),
    "seresnet": dict(name="seresnet50", image_size=32, width=4, se_ratio=0.25),
    "seresnet_v1": dict(name="seresnet50_v1", image_size=32, width=4, se_ratio=0.25),
    "seresnext": dict(name="seresnext50_32x4d", image_size=32, width=4, se_ratio=0.25, cardinality=2),
    "senet154": dict(name="senet154", image_size=32, width=2, se_ratio=0.5, cardinality=4),
    "const_0_1": dict(name="resnet110_const_0_1", image_size=8, units=1, width=4),
    "const_05_1": dict(name="resnet110_const_05_1", image_size=8, units=1, width=4),
    "const_05_05": dict(name="resnet110_const_05_05", image_size=8, units=1, width=4),
    "exclusive_gating": dict(name="resnet110_exclusive_gating", image_size=8, units=1, width=4),
    "shortcut_gating": dict(name="resnet110_shortcut_gating", image_size=8, units=1, width=4),
    "conv_shortcut": dict(name="resnet110_conv_shortcut", image_size=8, units=1, width=4),
    "dropout_shortcut": dict(name="resnet110_dropout_shortcut", image_size=8, units=1, width=4),
    "original_bottleneck": dict(name="resnet164", image_size=8, units=1, width=4),
    "bn_after_add": dict(name="resnet110_bn_after_add", image_size=8, units=1, width=4),
    "bn_after_add_bottleneck": dict(name="resnet164_bn_after_add", image_size=8, units=1, width=4),
    "relu_before_add": dict(name="resnet110_relu_before_add", image_size=8, units=1, width=4),
    "relu_before_add_bottleneck": dict(name="resnet164_relu_before_add", image_size=8, units=1, width=4),
    "relu_only_preact": dict(name="resnet110_relu_only_preact", image_size=8, units=1, width=4),
    "relu_only_preact_bottleneck": dict(name="resnet164_relu_only_preact", image_size=8, units=1, width=4),
    "preact": dict(name="resnet110_preact", image_size=8, units=1, width=4),
    "preact_bottleneck": dict(name="resnet164_preact", image_size=8, units=1, width=4),
    "resnetv2": dict(name="resnetv2_50", image_size=32, width=4),
    "resnetv2_drop_path": dict(name="resnetv2_50", image_size=32, width=4, drop_path_rate=0.2),
    "wrn": dict(name="wrn_28_2", image_size=8, units=1, width=4),
    "wrn_drop": dict(name="wrn_28_2", image_size=8, units=1, width=4, block_drop_rate=0.3),
    "wide_resnet": dict(name="wide_resnet50_2", image_size=32, width=4),
    "spinal": dict(name="wide_resnet101_2_spinal", image_size=32, width=2),
    "se_bn_inception": dict(name="se_bn_inception", image_size=32, width_multiplier=1 / 16, se_ratio=1 / 4),
    "se_inception_resnet_v2": dict(
        name="se_inception_resnet_v2", image_size=75, units=1, width_multiplier=1 / 16, se_ratio=1 / 4
    ),
    "bit": dict(name="bit_r50x1", image_size=32, width=4, num_groups=2),
    "cct": dict(name="cct_7_3x2", image_size=16, depth=2, width=8, num_heads=2),
    "coatnet": dict(name="coatnet_0", image_size=64, width_multiplier=1 / 12, depth_multiplier=0.4, head_channels=8),
    "coatnet_mixed": dict(
        name="coatnet_6", image_size=64, width_multiplier=1 / 24, depth_multiplier=0.05, head_channels=8
    ),
    "convnext": dict(name="convnext_tiny", image_size=32, width=4, drop_path_rate=0.0),
    "convnext_drop_path": dict(name="convnext_tiny", image_size=32, width=4, drop_path_rate=0.2),
    "regnety": dict(
        name="regnety_4g", image_size=32, depth=5, initial_width=8, slope=4.0, multiplier=2.0, group_width=4
    ),
    "efficientnet": dict(name="efficientnet_b0", image_size=32, width=0.1, depth=0.5),
    "efficientnet_lite": dict(name="efficientnet_lite0", image_size=32, width=0.1, depth=0.5),
    "mobilenet_v2": dict(name="mobilenet_v2", image_size=32, width=0.1),
    "mobilenet_v3": dict(name="mobilenet_v3_small", image_size=32, width=0.1, features=32),
    # Maps of a pixel, at 32 px, would leave the many norms of the last stage a value an image to measure.
    "mobilenet_v4": dict(name="mobilenet_v4_conv_small", image_size=64, width=0.1),
    "mobilenet_v4_fused": dict(name="mobilenet_v4_conv_medium", image_size=64, width=0.1),
    "simple_cnn_m3": dict(name="simple_cnn_m3", image_size=22),
    "simple_cnn_m5": dict(name="simple_cnn_m5", image_size=22),
    "simple_cnn_m7": dict(name="simple_cnn_m7", image_size=26),
    "swin": dict(name="swin_tiny", image_size=64, width=4, num_heads=1, window_size=4, drop_path_rate=0.0),
    "swin_drop_path": dict(name="swin_tiny", image_size=64, width=4, num_heads=1, window_size=4),
    "vit": dict(name="vit_tiny_16", image_size=32, depth=2, width=8, num_heads=2),
    "vit_mean_pool": dict(name="vit_tiny_16", image_size=32, depth=2, width=8, num_heads=2, mean_pool=True),
}

# What the default tests build: the families that have least in common. The others are heavy.
QUICK = {
    *("googlenet", "bottleneck", "cifar_drop_path", "densenet_cifar_bc", "relu_only_preact", "bit", "mobilenet_v3"),
    *("mobilenet_v4", "efficientnet", "convnext_drop_path", "coatnet", "deit_distilled", "swin"),
}
# One of each kind of operation and of shared block, for what depends on them alone: test_models_backends.py.
KINDS = QUICK | {
    *("alexnet", "vgg", "prelunet", "basic_b", "cifar", "exclusive_gating", "preact_bottleneck", "wrn", "spinal"),
    *("resnetv2", "seresnext", "se_bn_inception", "se_inception_resnet_v2", "regnety", "efficientnet_lite"),
    *("mobilenet_v2", "simple_cnn_m5", "cct", "vit", "vit_mean_pool"),
}
ROWS = [pytest.param(label, marks=() if label in QUICK else pytest.mark.heavy) for label in TINY]
every_row = pytest.mark.parametrize("label", ROWS)


def build(label: str, **changes) -> keras.Model:
    """The tiny model of a row, some of its arguments changed."""
    return create_model(**{"num_classes": NUM_CLASSES, **TINY[label], **changes})


def jitter(model: keras.Model, seed: int = 0) -> keras.Model:
    """Redraws every weight, so that no gamma is 1, no beta, bias or moving mean is 0, no variance is 1."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        kind = weight.path.rsplit("/", 1)[-1]
        if kind in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, weight.shape)
        elif kind == "alpha":  # the slopes of PReLU
            value = rng.uniform(0.1, 0.4, weight.shape)
        elif len(weight.shape) > 1:  # a kernel: He et al. 2015, so that the signal neither fades nor grows
            depthwise = len(weight.shape) == 4 and weight.shape[-1] == 1  # (h, w, C, 1): each sum has h w terms
            terms = np.prod(weight.shape[:2] if depthwise else weight.shape[:-1])
            value = rng.normal(0, np.sqrt(2 / terms), weight.shape)
        else:
            value = rng.normal(0, 0.3, weight.shape)
        weight.assign(value)
    return model


def kind(name: str) -> tuple:
    """What makes a variant another kind of network: its builder, and the options that are functions, None or bool."""
    variant = get_variant(name)
    kinds = {k: v for k, v in variant.options.items() if callable(v) or v is None or isinstance(v, bool)}
    return variant.builder, frozenset(kinds.items())


@functools.cache
def shared(label: str) -> keras.Model:
    """The jittered tiny model of a row, built once for all tests that do not change it."""
    return jitter(build(label))


def settle(model: keras.Model, x: np.ndarray) -> keras.Model:
    """Gives every batch norm the statistics of ``x``, as long training would; else half precision can overflow."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(x, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model


def images(model: keras.Model, count: int = 2, seed: int = 0) -> np.ndarray:
    """Random float32 images 0..255 of the model's size."""
    return np.random.default_rng(seed).uniform(0, 255, (count, *model.input.shape[1:])).astype("float32")


def logits(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """What the model answers at inference."""
    return keras.ops.convert_to_numpy(model(x, training=False))
