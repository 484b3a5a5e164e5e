"""Stages: what is frozen stays, features are what the backbone makes of the images, and a resume is exact."""

import signal

import keras
import numpy as np
import pytest
from conftest import TINY_RECIPE

import kcls
from kcls.errors import DataError, Interrupted, KclsError, RecipeError
from kcls.quantization import is_quantization_aware, unknown_ranges
from kcls.recipe import load_recipe
from kcls.training import entry, loop, stages
from kcls.training.feed import make_feed
from kcls.training.stages import begin_stage
from kcls.training.state import Training

STAGES = "{stages: [{epochs: 2, freeze: backbone, views: 2, lr: 0.01}, {epochs: 2, freeze: norms}], batch_size: 64}"

VIT = "{name: vit_tiny_16, options: {depth: 1, width: 8, num_heads: 2}}"


@pytest.fixture(scope="module")
def staged(trained, tmp_path_factory):
    """A recipe of two stages that starts from a finished run, and where it lies."""
    folder = tmp_path_factory.mktemp("staged")
    (folder / "staged.yaml").write_text(TINY_RECIPE)
    changes = [f"train={STAGES}", f"model.pretrained={trained.path}", "model.drop_rate=0.3"]
    return load_recipe(folder / "staged.yaml", changes)


@pytest.fixture(scope="module")
def whole(staged, tmp_path_factory):
    """Its run, and the weights after each epoch."""
    weights = []
    with pytest.MonkeyPatch.context() as patch:
        save = loop._save
        patch.setattr(loop, "_save", lambda training: weights.append(values(training.network)) or save(training))
        run = kcls.train(staged, out=tmp_path_factory.mktemp("whole") / "run")
    return run, weights


def values(network):
    return {weight.path: weight.numpy() for weight in network.weights if "seed_generator" not in weight.path}


def changed(before, after):
    """The kinds of weights that are not the same any more, and whether they are the head's."""
    return {
        (path.startswith("head/"), path.rpartition("/")[2])
        for path in before
        if not np.array_equal(before[path], after[path])
    }


def test_a_frozen_backbone_stays_as_it_is_and_so_do_frozen_norms(trained, whole):
    _, after = whole
    start = values(keras.models.load_model(trained.model_file))
    assert changed(start, after[1]) == {(True, "kernel"), (True, "bias")}
    assert changed(after[1], after[3]) == {(True, "kernel"), (True, "bias"), (False, "kernel")}


def test_each_stage_has_its_own_learning_rate_from_its_beginning_to_its_end(whole):
    lr = [row["lr"] for row in whole[0].history()]
    last = (1 + np.cos(3 / 4 * np.pi)) / 2  # of the four steps of the cosine, which follows an epoch of rise
    assert lr == pytest.approx([0.01, 0.01 * last, 0.1, 0.1 * last])


def test_the_head_is_measured_on_the_images_as_evaluation_sees_them(whole):
    run, weights = whole
    model = keras.models.load_model(run.model_file)
    for weight in model.weights:
        weight.assign(weights[1].get(weight.path, weight))
    images, labels = zip(*kcls.load_data(run.recipe, "val")[0], strict=True)
    logits, labels = model.predict(np.concatenate(images), verbose=0), np.concatenate(labels)
    assert (logits.argmax(-1) == labels).mean() == pytest.approx(run.history()[1]["val_top1"])


def begun(monkeypatch, recipe, folder) -> Training:
    """A training that stands before its first step."""
    caught = []

    def catch(training):
        caught.append(training)
        raise Interrupted("caught", signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(entry, "run_epochs", catch)
        kcls.train(recipe, out=folder)
    begin_stage(caught[0], 0)
    return caught[0]


def test_the_epochs_take_the_views_in_turn_the_first_of_which_has_no_changes(staged, tmp_path, monkeypatch):
    more = staged.model_copy(update={"train": staged.train.model_copy(update={"stages": (longer(staged),)})})
    training = begun(monkeypatch, more, tmp_path / "run")
    batches = [x.numpy() for x, _ in make_feed(training, lambda: None).training(0)]
    epochs = [np.concatenate(batches[i : i + training.steps]) for i in range(0, len(batches), training.steps)]
    assert len(epochs) == 4
    images = np.concatenate([x for x, _ in kcls.load_data(more, "train", batch_size=training.train.count)[0]])
    preprocess = entry.Preprocess.from_recipe(more.image)
    squares = entry.kept(entry.open_data(more.data).split("train"), preprocess)
    images = np.stack([squares.record(i)[1] for i in range(squares.count)])
    plain = training.backbone.predict(images, verbose=0)

    def plain_ones(features):
        """How many of the features are those of an image without changes; the tolerance is of another batch size."""
        return sum(np.abs(plain - row).max(-1).min() < 1e-4 for row in features)

    found = [plain_ones(epoch) for epoch in epochs]
    size = len(epochs[0])
    assert found[0] == found[2] == size and max(found[1], found[3]) < 0.3 * size


def longer(recipe):
    return recipe.train.stages[0].model_copy(update={"epochs": 4})


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(2, id="while the head is trained"),
        pytest.param(10, id="in the second stage", marks=pytest.mark.heavy),
        pytest.param(7, id="at the end of the first", marks=pytest.mark.heavy),
    ],
)
def test_a_training_in_stages_resumes_with_the_same_bits(whole, tmp_path, monkeypatch, step):
    stopped_and_resumed(whole[0], tmp_path, monkeypatch, step)  # of four steps an epoch


def stopped_and_resumed(run, folder, monkeypatch, step):
    """Trains the recipe of a run anew, stopped after a step and resumed, and compares."""
    with monkeypatch.context() as patch:
        shown = loop.TrainingDisplay.step

        def interrupt(display, epoch, number, loss):
            shown(display, epoch, number, loss)
            if number == step:
                signal.raise_signal(signal.SIGTERM)

        patch.setattr(loop.TrainingDisplay, "step", interrupt)
        patch.setattr(loop, "UNREAD_STEPS", 0)
        with pytest.raises(Interrupted, match="--resume"):
            kcls.train(run.recipe, out=folder / "run")
    resumed = kcls.train(resume=True, out=folder / "run")
    for key in ("epoch", "step", "loss", "val_loss", "val_top1", "lr", "best"):
        assert [row[key] for row in resumed.history()] == [row[key] for row in run.history()]


def test_a_signal_while_features_are_computed_ends_with_what_to_do(staged, tmp_path, cli, monkeypatch):
    make = loop.make_feed

    def interrupted(training, look):
        signal.raise_signal(signal.SIGTERM)
        return make(training, look)

    monkeypatch.setattr(loop, "make_feed", interrupted)
    with pytest.raises(Interrupted, match="SIGTERM: nothing was trained yet; start it again"):
        kcls.train(staged, out=tmp_path / "run")


def test_a_broken_image_is_named_while_features_are_computed(staged, flat_folder, tmp_path, monkeypatch):
    data = {"source": "folder", "path": str(flat_folder), "train": "all[:80%]", "val": "all[80%:]"}
    recipe = load_recipe_of(staged, data)
    monkeypatch.setattr("kcls.data.opening.MEMORY_LIMIT", 0)  # images that are kept are read before
    broken = sorted((flat_folder / "green").iterdir())[3]
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match=broken.name):
        kcls.train(recipe, out=tmp_path / "run")


def load_recipe_of(recipe, data):
    return type(recipe).model_validate({**recipe.resolved(), "data": data})


def test_a_network_of_several_heads_has_no_single_one_to_train(tmp_path):
    network = kcls.create_model("googlenet", num_classes=10, image_size=80, width_multiplier=1 / 16)
    network.save(tmp_path / "googlenet.keras")
    (tmp_path / "r.yaml").write_text(TINY_RECIPE)
    options = "{name: googlenet, options: {width_multiplier: 0.0625}, pretrained: googlenet.keras}"
    (tmp_path / "r.yaml").write_text(TINY_RECIPE.replace("{name: resnet20, options: {units: 1, width: 4}}", options))
    with pytest.raises(RecipeError, match="googlenet has auxiliary heads: a frozen backbone can have one head only"):
        kcls.train(load_recipe(tmp_path / "r.yaml", ["train.freeze=backbone", "image.size=80"]), out=tmp_path / "run")


def test_features_that_would_fill_the_memory_are_refused(staged, tmp_path, monkeypatch):
    monkeypatch.setattr("kcls.training.feed.MOST_FEATURES", 1000)
    with pytest.raises(RecipeError, match="features of 288 images in 2 views .*take fewer train.views"):
        kcls.train(staged, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["train.freeze=backbone"], "train.freeze 'backbone' needs model.pretrained"),
        (["train.freeze=norms"], "train.freeze 'norms' needs model.pretrained"),
        (["train.views=2"], "views has no effect unless freeze is 'backbone'"),
        (["train.stages=[{epochs: 2}]"], "epochs has no effect beside stages, which have their own"),
        (["train.epochs=null"], "epochs is missing, or stages"),
        (["train={stages: [{epochs: 1}, {epochs: 3}], batch_size: 64}"], "must be below the shortest of train.stages"),
        (["train={stages: [{epochs: 3, views: 2}], batch_size: 64}"], "views has no effect unless freeze"),
        (["train={stages: [{epochs: 3, freez: norms}], batch_size: 64}"], "unknown key 'train.stages.0.freez'"),
        (["P", "train.freeze=backbone", "train.views=2", "augment.crop_padding=0"], "train.views 2 has no effect"),
        (["P", "train.freeze=backbone", "method={name: auxiliary_heads}"], "has no effect on a head alone"),
        (
            ["train.quantize_aware=true", "export={formats: [tflite]}"],
            "export.quantize is 'none', and train.quantize_aware is for 'int8'",
        ),
        (
            ["train.quantize_aware=mixed", "export={formats: [tflite], quantize: int8}"],
            "export.quantize is 'int8', and train.quantize_aware is for 'mixed'",
        ),
        (["train={stages: [{epochs: 3, quantize_aware: true}, {epochs: 3}], batch_size: 64}"], "once one is"),
        (
            ["train={stages: [{epochs: 3, quantize_aware: true}, {epochs: 3, quantize_aware: mixed}], batch_size: 64}"],
            "once one is quantize_aware, those after it are, too, in the same way",
        ),
        (["P", "train.quantize_aware=true", "train.freeze=backbone"], "quantize_aware trains all kernels"),
    ],
)
def test_stages_that_make_no_sense_are_refused(tiny_recipe, trained, changes, message):
    changes = [f"model.pretrained={trained.path}" if change == "P" else change for change in changes]
    with pytest.raises(RecipeError, match=message):
        load_recipe(tiny_recipe, changes)


def test_the_recipe_of_a_run_in_stages_is_a_recipe(whole):
    assert load_recipe(whole[0].recipe_file) == whole[0].recipe


@pytest.mark.heavy
def test_norm_momentum_is_that_of_the_training_and_not_of_the_saved_model(tiny_recipe, tmp_path, monkeypatch):
    recipe = load_recipe(tiny_recipe, ["train.norm_momentum=0.8", "train.epochs=1", "optimizer.warmup_epochs=0"])
    network = begun(monkeypatch, recipe, tmp_path / "begun").network
    assert {layer.momentum for layer in norms(network)} == {0.8}
    saved = keras.models.load_model(kcls.train(recipe, out=tmp_path / "run").model_file)
    assert {layer.momentum for layer in norms(saved)} == {0.9}


def norms(network):
    return [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]


def test_norm_momentum_without_norms_is_refused(tmp_path):
    (tmp_path / "r.yaml").write_text(TINY_RECIPE.replace("{name: resnet20, options: {units: 1, width: 4}}", VIT))
    recipe = load_recipe(tmp_path / "r.yaml", ["train.norm_momentum=0.8", "image.size=16"])
    with pytest.raises(RecipeError, match="train.norm_momentum has no effect: vit_tiny_16 has no batch norms"):
        kcls.train(recipe, out=tmp_path / "run")


# --- quantization-aware stages ---

AWARE = "{stages: [{epochs: 1}, {epochs: 2, lr: 0.01, quantize_aware: true}], batch_size: 64}"
EXPORT = "{formats: [saved_model, tflite], quantize: int8, max_drop: 1, min_agreement: 0.8}"


@pytest.fixture(scope="module")
def aware(tmp_path_factory):
    """A run whose last stage is quantization-aware."""
    folder = tmp_path_factory.mktemp("aware")
    (folder / "aware.yaml").write_text(TINY_RECIPE)
    changes = [f"train={AWARE}", "optimizer.warmup_epochs=0.5", "model.drop_rate=0.3", f"export={EXPORT}"]
    return kcls.train(load_recipe(folder / "aware.yaml", changes), out=folder / "run")


@pytest.mark.heavy
def test_a_quantization_aware_run_gives_a_model_and_a_file_that_agree(aware):
    model = keras.models.load_model(aware.model_file)
    assert is_quantization_aware(model) and not unknown_ranges(model)
    saved, file = kcls.export(aware)
    assert saved["agreement"] == 1 and file["quantize"] == "int8" and "calibration_images" not in file
    assert file["max_difference"] < 0.01  # 2.5 steps of 1 / 256; its answers differ more often, as it is hardly trained


@pytest.mark.heavy
def test_the_best_epoch_is_one_of_the_quantization_aware_stage(aware):
    assert max(row["epoch"] for row in aware.history() if row["best"]) > 1


@pytest.mark.heavy
def test_the_quantization_aware_stage_begins_with_the_weights_of_the_one_before(aware, tmp_path, monkeypatch):
    starts = []
    make = stages.make_quantization_aware

    def noted(network, *arguments):
        made = make(network, *arguments)
        starts.append((values(network), values(made)))
        return made

    monkeypatch.setattr(stages, "make_quantization_aware", noted)
    kcls.train(aware.recipe, out=tmp_path / "run")
    (before, after) = starts[0]
    assert changed(before, after) == set() and before.keys() < after.keys()


@pytest.mark.heavy
@pytest.mark.parametrize("step", [pytest.param(6, id="within"), pytest.param(3, id="before")])
def test_a_quantization_aware_training_resumes_with_the_same_bits(aware, tmp_path, monkeypatch, step):
    stopped_and_resumed(aware, tmp_path, monkeypatch, step)


@pytest.mark.heavy
def test_another_process_and_another_training_use_a_quantization_aware_run(aware, python, tmp_path):
    code = "import sys; from kcls.artifact import open_artifact; print(open_artifact(sys.argv[1]).class_names[9])"
    done = python(code, aware.path)
    assert done.stdout == "9\n", done.stderr
    model = kcls.create_model("resnet20", num_classes=10, image_size=8, units=1, width=4)
    assert kcls.load_pretrained(model, str(aware.path)).head == "loaded"


def test_a_network_without_an_int8_form_is_refused_by_its_layer(tmp_path):
    (tmp_path / "r.yaml").write_text(TINY_RECIPE.replace("{name: resnet20, options: {units: 1, width: 4}}", VIT))
    recipe = load_recipe(tmp_path / "r.yaml", ["train.quantize_aware=true", "image.size=16"])
    with pytest.raises(RecipeError, match="train.quantize_aware: vit_tiny_16 cannot be made quantization-aware"):
        kcls.train(recipe, out=tmp_path / "run")


@pytest.mark.heavy
def test_a_transformer_is_trained_for_its_mixed_file_and_exported_as_that(tmp_path):
    (tmp_path / "r.yaml").write_text(TINY_RECIPE.replace("{name: resnet20, options: {units: 1, width: 4}}", VIT))
    aware = AWARE.replace("true", "mixed")
    recipe = load_recipe(tmp_path / "r.yaml", [f"train={aware}", "optimizer.warmup_epochs=0.5", "image.size=16"])
    run = kcls.train(recipe, out=tmp_path / "run")
    (file,) = kcls.export(run, ["tflite"], quantize="mixed", max_drop=1, min_agreement=0.8)
    assert "calibration_images" not in file and file["max_difference"] < 0.01
    with pytest.raises(KclsError, match="its file is mixed, not 'int8'"):
        kcls.export(run, ["tflite"], quantize="int8")
