"""The same logits as timm, with its weights, at full size: one random-weight checkpoint for each variant.

``KCLS_RECORD_PARITY=kcls/parity.json pytest -m parity`` writes the differences there.
"""

import gc

import numpy as np
import pytest
from parity import import_timm, report

from kcls.models import create_model
from kcls.models.registry import get_variant
from kcls.weights.checkpoint import read_tensors
from kcls.weights.timm import NAME_MAPS

pytestmark = pytest.mark.parity

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


@pytest.mark.parametrize(
    "name, names",
    [
        pytest.param(name, names, id=f"{name}-{names.architecture}")
        for name in sorted(NAME_MAPS)
        for names in NAME_MAPS[name]
    ],
)
def test_logits_are_those_of_timm(name, names, tmp_path):
    timm = import_timm()
    import torch
    from safetensors.torch import save_file

    options = {"image_size": get_variant(name).image_size, **names.options, **CONFIGURED.get(names.architecture, {})}
    size = options["image_size"]
    x = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
    theirs_x = torch.from_numpy((x / 127.5 - 1).transpose(0, 3, 1, 2).copy())
    num_classes = get_variant(name).num_classes  # timm has none where its only weights have no head
    theirs = redraw(timm.create_model(names.architecture, num_classes=num_classes), theirs_x)
    file = tmp_path / "model.safetensors"
    save_file({k: v.contiguous() for k, v in theirs.state_dict().items()}, file)
    with torch.inference_mode():
        expected = theirs(theirs_x).numpy()
    del theirs
    gc.collect()

    ours = create_model(name, num_classes=num_classes, **options)
    assert read_tensors(ours, file, names)
    file.unlink()
    answer = ours.predict_on_batch(x)
    label = name if names is NAME_MAPS[name][0] else f"{name} as {names.architecture}"
    report(label, answer, expected, f"timm {timm.__version__}", TOLERANCE)
