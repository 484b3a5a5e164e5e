"""Two replicas are one device: the same weights from the same global batches."""

import pytest

from kcls.errors import RecipeError
from kcls.models import create_model
from kcls.training.distribution import check_batch_size

# Logical devices can be made only before TensorFlow starts, so this runs in its own process.
TWO_DEVICES = """if True:
    import sys
    from kcls.backend import require_tensorflow
    require_tensorflow()
    import keras, numpy as np, tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    import kcls
    recipe, out = sys.argv[1], sys.argv[2]
    weights, rows = [], []
    for strategy in ("one_device", "mirrored"):
        parsed = kcls.load_recipe(recipe, [f"train.strategy={strategy}", *sys.argv[3:]])
        run = kcls.train(parsed, out=f"{out}/{strategy}")
        weights.append(keras.models.load_model(run.model_file).get_weights())
        rows.append(run.history()[-1])
    print("difference", max(abs(a - b).max() for a, b in zip(*weights)))
    print("top1", *(rows[1][key] - rows[0][key] for key in ("top1", "val_top1")))
"""


GENTLE = ["optimizer.name=sgd", "optimizer.lr=0.01", "optimizer.momentum=0.9", "optimizer.weight_decay=5e-4"]
NETWORKS = {
    "resnet20": [],
    # Grouped convolutions. Of five blocks: fifty layers multiply the rounding of one step beyond any tolerance.
    "regnety_4g": [
        "model.options={depth: 5, initial_width: 8, slope: 4.0, multiplier: 2.0, group_width: 4}",
        "image.size=32",
        "optimizer.lr=0.001",
    ],
    # Auxiliary heads; without dropout, whose masks are each replica's own.
    "googlenet": [
        "model.options={width_multiplier: 0.0625, auxiliary_drop_rate: 0}",
        "model.drop_rate=0",
        "image.size=80",
    ],
    "pretrained": [],
}


@pytest.mark.heavy
@pytest.mark.parametrize("network", NETWORKS)
def test_two_replicas_give_the_same_weights_as_one(python, folder_recipe, tmp_path, network):
    # Noisy images and a small learning rate: at a large one, training multiplies the rounding of float32 by a hundred
    # a step, and two runs on one device that sum in another order part just as far.
    overrides = [*GENTLE, *NETWORKS[network]]
    if network == "pretrained":
        file = tmp_path / "start.keras"
        create_model("resnet20", num_classes=7, image_size=8, units=1, width=4).save(file)  # another head
        overrides += [f"model.pretrained={file}"]
    else:
        overrides += [f"model.name={network}"]
    done = python(TWO_DEVICES, folder_recipe, tmp_path, *overrides, "train.batch_size=30")
    assert done.returncode == 0, done.stderr[-2000:]
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert float(lines["difference"]) < 1e-5  # float32 sums in another order: 1e-6 seen
    assert all(abs(float(v)) < 1e-6 for v in lines["top1"].split())
    assert "1 replica(s)" in done.stderr and "2 replica(s)" in done.stderr


def test_a_batch_that_the_replicas_cannot_share_is_refused_with_the_nearest():
    check_batch_size(64, 2)
    with pytest.raises(
        RecipeError, match="batch_size 65 is over all 4 replicas and must be a multiple of them: 64 or 68"
    ):
        check_batch_size(65, 4)
    with pytest.raises(RecipeError, match="multiple of them: 4$"):
        check_batch_size(3, 4)
