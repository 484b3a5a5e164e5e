"""The training of a recipe, from top to bottom: devices, data, model, run folder, resume, loop, result."""

import json
import logging
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

import keras
import tensorflow as tf

from kcls import __version__
from kcls.data.archive import add_config
from kcls.data.opening import check_unchanged, kept, open_data
from kcls.data.preprocess import Preprocess
from kcls.data.source import Source
from kcls.data.stream import steps_per_epoch
from kcls.errors import RecipeError
from kcls.files import remove_leftovers, replacing, write_json
from kcls.models.registry import get_variant
from kcls.pretrained import find_pretrained
from kcls.quantization import quantize_aware
from kcls.recipe import Recipe, changed_keys, load_recipe
from kcls.run import Run, create_run, open_run, resumable_run
from kcls.training.checkpoint import DamagedCheckpoint, load_checkpoint, read_checkpoint, restore
from kcls.training.curves import plot_curves
from kcls.training.distribution import check_batch_size, make_strategy
from kcls.training.loop import run_epochs
from kcls.training.network import build_network, copy_weights, make_network, precision
from kcls.training.stages import begin_stage
from kcls.training.state import Training
from kcls.weights.source import Pretrained


def train(
    recipe: Recipe | str | Path | None = None,
    *,
    name: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    download: bool = False,
) -> Run:
    """Trains a recipe and returns its run.

    Args:
        recipe: a recipe or the path of one; with ``resume`` it may be left out.
        name: of the folder in ``runs/``; None is the recipe's file name, or the model's for a recipe object.
        out: the run's folder; None is the next number under ``runs/<name>/``.
        resume: goes on with ``out``, or with the newest unfinished run (of this recipe), from wherever it was: without
            a checkpoint from its beginning; a finished one is returned as it is.
        force: whether a run that is already at ``out`` is replaced.
        download: whether a TensorFlow data set that is not on this machine may be downloaded.

    Raises:
        RecipeError: the recipe cannot be carried out, or differs from that of the run to be resumed.
        DataError: the data cannot be found or used.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written and the run can be resumed.
        KclsError: the loss is not finite, or the run's folder cannot be used.
    """
    if isinstance(recipe, str | Path):
        name = name or Path(recipe).stem
        recipe = load_recipe(recipe)
    run = None
    if resume:
        run = open_run(out) if out else resumable_run(name)
        recipe = _resumed_recipe(run, recipe)
        if run.finished:
            return run
    if recipe is None:
        raise RecipeError("train needs a recipe, or resume")
    _refuse_pretraining(recipe.model.name)
    pretrained = None
    restored = run is not None and run.can_be_restored
    if not restored:
        recipe, pretrained = _with_image(recipe)

    strategy = make_strategy(recipe.train.strategy)
    check_batch_size(recipe.train.batch_size, strategy.num_replicas_in_sync)
    train_split, val_split = _open_splits(recipe, run, download)
    steps = steps_per_epoch(train_split, recipe.train.batch_size)
    network, pretrained = make_network(recipe, strategy, len(train_split.class_names), pretrained)

    run = run or create_run(recipe, name or recipe.model.name, train_split.class_names, out, force)
    training = Training(recipe, run, strategy, network, train_split, val_split, steps, pretrained=pretrained)
    with run.locked():
        _carry_out(training, restored)
    return run


def _carry_out(training: Training, restored: bool) -> None:
    """All of a training, from its last checkpoint or from its beginning."""
    remove_leftovers(training.run.path)
    if restored:
        _restore(training)
    else:
        _write_start(training)
    _add_environment(training)
    run_epochs(training)
    _finish(training)


def _open_splits(recipe: Recipe, resumed: Run | None, download: bool) -> tuple[Source, Source]:
    """The training and the validation split, the small ones in memory; those of a run that goes on are as they were."""
    data, preprocess = open_data(recipe.data, download=download), Preprocess.from_recipe(recipe.image)
    if resumed:
        check_unchanged(data, ("train", "val"), resumed.splits, "restore them, or start a new run")
    if recipe.data.test:  # if it is not there, that is found now, not at the end
        data.split("test")
    return kept(data.split("train"), preprocess, recipe.augment), kept(data.split("val"), preprocess)


def _refuse_pretraining(name: str) -> None:
    if get_variant(name).finetuned_as:
        raise RecipeError(
            f"a recipe trains classifiers, and {name} only pre-trains, without labels; in Python: "
            f"`kcls.methods.MaskedAutoencoder(kcls.create_model({name!r}, num_classes=0))`, then its "
            "`compile(optimizer)` and `fit(images)`"
        )


def _with_image(recipe: Recipe) -> tuple[Recipe, Pretrained | None]:
    """The recipe, its image section as its weights and then its network want it; and the weights it starts with."""
    pretrained = None
    if recipe.model.pretrained:
        recipe, pretrained = _with_pretrained(recipe, recipe.model.pretrained)
    variant = get_variant(recipe.model.name)
    return recipe.with_image({"mean": variant.mean, "std": variant.std}), pretrained


def _with_pretrained(recipe: Recipe, source: str) -> tuple[Recipe, Pretrained]:
    """The weights that the recipe starts with, and the recipe with their wishes where it has none of its own."""
    model = recipe.model
    pretrained = find_pretrained(model.name, source, model.pretrained_sha256, model.options)
    recipe = recipe.with_image(pretrained.image_defaults())
    if recipe.image.size is None:
        raise RecipeError(f"image.size is missing, and {pretrained.source} does not say what it was trained with")
    return recipe, pretrained


def _resumed_recipe(run: Run, given: Recipe | None) -> Recipe:
    recipe = run.recipe
    if given is not None and given.model.pretrained == recipe.model.pretrained:
        given = given.with_image({key: getattr(recipe.image, key) for key in type(recipe.image).model_fields})
    if given is not None and (changes := changed_keys(recipe, given)):
        raise RecipeError(
            f"the recipe differs from that of run {run.path}, so it cannot be resumed: " + "; ".join(changes)
        )
    return recipe


def _write_start(training: Training) -> None:
    """What is known before the first step."""
    run = training.run
    run.write_history([])
    write_json(run.path / "splits.json", {split.role: split.fingerprint for split in (training.train, training.val)})
    if training.pretrained:
        write_json(run.path / "pretrained.json", training.pretrained.to_dict())


def _restore(training: Training) -> None:
    """Puts a training back to where its last checkpoint was written, or the one before it if that is damaged."""
    run = training.run
    files = [file for file in (run.last_checkpoint, run.previous_checkpoint) if file.is_file()]
    for file in files:
        try:
            return _restore_from(file, training)
        except DamagedCheckpoint as error:
            if file == files[-1]:
                raise
            logging.getLogger(__name__).warning("%s: the one before it is taken", error)


def _restore_from(file: Path, training: Training) -> None:
    """Reads a checkpoint into the stage of its last step."""
    meta, arrays = read_checkpoint(file)
    training.step = meta["step"] - 1
    begin_stage(training, training.stage_number)
    training.step, training.best = meta["step"], meta["best"]
    with training.strategy.scope():
        restore(arrays, training.variables, file)
    done = training.step // training.steps
    training.run.write_history([row for row in training.run.history() if row["epoch"] <= done])


def _add_environment(training: Training) -> None:
    """Adds this start to those before it."""
    file = training.run.path / "environment.json"
    starts = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    devices = [d.name for kind in ("GPU", "CPU") for d in tf.config.list_logical_devices(kind)]
    start = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "step": training.step,
        "kcls": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "platform": platform.platform(),
        "devices": devices,
        "replicas": training.strategy.num_replicas_in_sync,
        "seed": training.recipe.train.seed,
        "argv": sys.argv,
    }
    write_json(file, [*starts, start])


def _finish(training: Training) -> None:
    """Writes the model with the best weights: built anew, in float32, outside any strategy."""
    recipe, run = training.recipe, training.run
    with precision("float32"):
        model = build_network(recipe, len(training.train.class_names))
        if recipe.train.ends_as:
            model = quantize_aware(model, quantize=recipe.train.ends_as)
    with training.strategy.scope():
        load_checkpoint(run.best_checkpoint, training.network.weights)
    copy_weights(training.network, model)
    plot_curves(run.history(), training.stage.method.watched, run.path / "curves.png")
    with replacing(run.model_file) as temporary:
        model.save(temporary)
        add_config(temporary, run.class_names, Preprocess.from_recipe(recipe.image))
