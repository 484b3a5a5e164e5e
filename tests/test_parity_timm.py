"""The same logits as timm, with its weights: small networks of each kind of block; names and shapes of the others.

``KCLS_RECORD_PARITY=kcls/parity.json pytest -n 0 -s -m full tests/test_parity_timm.py``, by hand before a release,
compares every variant at full size and writes the differences there: about an hour, up to 20 GiB.
"""

import gc

import numpy as np
import pytest
from parity import compare, import_timm, report
from tiny import kind

from kcls.catalogue import read_catalogue
from kcls.models import create_model
from kcls.models.count import weightless
from kcls.models.registry import get_variant
from kcls.weights.checkpoint import fill_from, read_tensors
from kcls.weights.tensors import TensorFile
from kcls.weights.timm import NAME_MAPS

# Float32 rounding grows with depth, to 1e-5 or 1e-4 of the logits' deviation; the mildest real mistakes (a batch norm's
# epsilon, a stride, a padding) cost .1 to .9. What a LayerNorm's epsilon costs is less: test_models_numbers.py.
TOLERANCE = 1e-3
# The configuration of a counterpart, where it is not that of the variant's row.
CONFIGURED = {
    "deit_base_distilled_patch16_384": dict(image_size=384),
    "deit_base_patch16_384": dict(image_size=384),
    "tf_efficientnet_l2": dict(image_size=475),
    "swin_base_patch4_window12_384": dict(image_size=384, window_size=12),
    "swin_large_patch4_window12_384": dict(image_size=384, window_size=12),
    "vit_base_patch16_384": dict(image_size=384),
    "vit_large_patch16_384": dict(image_size=384),
}


def redraw(model, x):
    """Random weights without an idle value, and running statistics near the true ones of ``x``."""
    import torch

    torch.manual_seed(0)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d)]
    with torch.no_grad():
        for module in model.modules():
            for name, p in module.named_parameters(recurse=False):
                if isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and name == "weight":
                    p.normal_(0, (2 / p[0].numel()) ** 0.5)
                elif name == "weight":  # of a norm
                    p.uniform_(0.1, 0.5)  # residual branches smaller than their shortcut, as in trained networks
                    p.mul_(torch.where(torch.rand_like(p) < 0.5, -1.0, 1.0))  # or a ReLU too many would not show
                else:
                    p.normal_(0, 0.2)
        if norms:
            for norm in norms:
                norm.momentum = 1.0  # one training pass: the running statistics become those of x
            model.train()
            model(x)
            for norm in norms:
                std = norm.running_var.sqrt()
                norm.running_mean.add_(torch.randn_like(std) * 0.1 * std)
                norm.running_var.mul_(torch.empty_like(std).uniform_(0.8, 1.25))
    return model.eval()


PAIRS = [(name, names) for name in sorted(NAME_MAPS) for names in NAME_MAPS[name]]


def published_options(name, names):
    """What ``create_model`` builds a counterpart of timm's with."""
    return {"image_size": get_variant(name).image_size, **names.options, **CONFIGURED.get(names.architecture, {})}


def label(name, names):
    return name if names is NAME_MAPS[name][0] else f"{name} as {names.architecture}"


def against_timm(name, names, options, tmp_path, **theirs_options):
    """Our logits and timm's, with timm's weights, which come over as those of a user do."""
    timm = import_timm()
    import torch
    from safetensors.torch import save_file

    size = options["image_size"]
    x = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
    theirs_x = torch.from_numpy((x / 127.5 - 1).transpose(0, 3, 1, 2).copy())
    num_classes = get_variant(name).num_classes  # timm has none where its only weights have no head
    theirs = timm.create_model(names.architecture, num_classes=num_classes, **theirs_options)
    redraw(theirs, theirs_x)
    file = tmp_path / "model.safetensors"
    save_file({k: v.contiguous() for k, v in theirs.state_dict().items()}, file)
    with torch.inference_mode():
        expected = theirs(theirs_x).numpy()
    del theirs
    gc.collect()

    ours = create_model(name, num_classes=num_classes, **options)
    assert read_tensors(ours, file, names)
    file.unlink()
    return ours.predict_on_batch(x), expected, f"timm {timm.__version__}"


@pytest.mark.full
@pytest.mark.parametrize("name, names", PAIRS, ids=[names.architecture for _, names in PAIRS])
def test_logits_are_those_of_timm_at_full_size(name, names, tmp_path):
    report(label(name, names), *against_timm(name, names, published_options(name, names), tmp_path), TOLERANCE)


# What timm and ``create_model`` must be told where the weights depend on the image size: the size itself, and windows
# that divide its maps (one in Swin's last stage, as published).
RESIZED = {name: lambda size: ({"img_size": size}, {}) for name in ("vit", "deit", "coatnet")}
RESIZED["swin"] = lambda size: ({"img_size": size, "window_size": size // 32}, {"window_size": size // 32})


def module(name):
    return get_variant(name).builder.__module__.rpartition(".")[2]


def small_size(name, names):
    """The size above 63 px whose maps are odd and even where the published one's are; VGG keeps its own."""
    size = published_options(name, names)["image_size"]
    return size if module(name) == "vgg" else 64 + size % 64


def small_networks():
    """The smallest of each kind of block and rules of names, at every small size of its kind: id -> name, map, size."""
    params = {row["name"]: row["trainable_params"] for row in read_catalogue()}
    smallest, sizes = {}, {}
    for name, names in sorted(PAIRS, key=lambda pair: params[pair[0]], reverse=True):
        # VGG's rules number every layer; that these are in order is said below.
        rules = None if module(name) == "vgg" else tuple(names.rules.items())
        same = kind(name), rules, tuple(names.layouts.items()), names.epsilon, tuple(names.options.items())
        smallest[same] = name, names
        sizes.setdefault(same, set()).add(small_size(name, names))
    rows = [(*smallest[same], size) for same in smallest for size in sorted(sizes[same])]
    return {f"{names.architecture}-{size}": (name, names, size) for name, names, size in rows}


SMALL = small_networks()


@pytest.mark.parity
@pytest.mark.parametrize("name, names, size", SMALL.values(), ids=SMALL)
def test_logits_are_those_of_timm_for_each_kind_of_block(name, names, size, tmp_path):
    theirs_options, ours_options = RESIZED.get(module(name), lambda size: ({}, {}))(size)
    options = {**published_options(name, names), "image_size": size, **ours_options}
    compare(label(name, names), *against_timm(name, names, options, tmp_path, **theirs_options), TOLERANCE)


class Shape(np.ndarray):
    """A float32 array that takes no memory, whatever its shape."""

    def __new__(cls, shape):
        return np.broadcast_to(np.ones((), "float32").view(cls), shape, subok=True)

    def astype(self, dtype):
        assert dtype == "float32"
        return self


COMPARED = {names.architecture for _, names, _ in SMALL.values()}
SIBLINGS = [(name, names) for name, names in PAIRS if names.architecture not in COMPARED]


@pytest.mark.parity
@pytest.mark.parametrize("name, names", SIBLINGS, ids=[names.architecture for _, names in SIBLINGS])
def test_every_tensor_of_timm_has_its_place_and_shape(name, names, monkeypatch):
    """At full size, through the code that reads a user's file, but without any value on either side."""
    timm = import_timm()
    import torch

    num_classes = get_variant(name).num_classes
    with torch.device("meta"):
        theirs = timm.create_model(names.architecture, num_classes=num_classes)
    shapes = {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    tensors = TensorFile(shapes, lambda name: Shape(shapes[name])).unwrapped()
    filled = []
    with weightless():
        ours = create_model(name, num_classes=num_classes, **published_options(name, names))
        monkeypatch.setattr(type(ours.weights[0]), "assign", lambda self, value: filled.append(self.path))
        assert fill_from(tensors, ours, names, names.architecture)
    assert filled == [w.path for w in ours.weights if "seed_generator" not in w.path]
    if module(name) == "vgg":  # one layer behind the other on both sides
        order = [names.tensor_name(path) for path in filled]
        assert order == list(tensors.shapes)
