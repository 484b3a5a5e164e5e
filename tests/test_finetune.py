"""The fine-tuning example: a checkpoint of timm in a local folder, a recipe, an int8 file."""

import json

import pytest
from conftest import ROOT
from parity import import_timm


@pytest.mark.parametrize(  # the recipe has 6
    "epochs", [pytest.param(3, marks=pytest.mark.parity), pytest.param(6, marks=pytest.mark.full)]
)
def test_a_timm_checkpoint_is_fine_tuned_on_digits_and_exported_to_int8(epochs, tmp_path, cli):
    timm = import_timm()
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = timm.create_model("resnet18")  # random weights: nothing is downloaded here
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    config = {"architecture": "resnet18", "pretrained_cfg": network.pretrained_cfg}
    (tmp_path / "config.json").write_text(json.dumps(config))

    changes = f"model.pretrained=timm:{tmp_path / 'model.safetensors'}", f"train.epochs={epochs}"
    recipe = ROOT / "recipes" / "finetune.yaml"
    outcome = cli("train", recipe, *(w for c in changes for w in ("--set", c)), "--out", tmp_path / "run", "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    print(f"\nfine-tuned: {result['evaluation']['top1']:.2%} top-1")
    assert "head replaced" in outcome.err
    record = json.loads((tmp_path / "run" / "pretrained.json").read_text())
    assert (record["head"], record["mean"]) == ("replaced", list(network.pretrained_cfg["mean"]))
    assert result["evaluation"]["top1"] > 0.9
    assert [report["quantize"] for report in result["exports"]] == ["int8"]
    assert (tmp_path / "run" / "export" / "resnet18_int8.tflite").is_file()
