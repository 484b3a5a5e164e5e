"""A recipe for a folder: what is there is found, what may not be guessed is asked for, and the recipe trains."""

import json
import os
from pathlib import Path

import pytest
from conftest import ROOT, write_images

from kcls.errors import DataError, RecipeError
from kcls.recipe import load_recipe, read_recipe
from kcls.starter import make_starter


def recipe_for(folder, flip=True):
    starter = make_starter(folder, flip=flip, command="kcls train r.yaml")
    return read_recipe(starter.recipe, "r.yaml", folder.parent), starter.found


def test_what_is_found_in_a_folder_is_told_and_becomes_a_recipe(flat_folder):
    recipe, found = recipe_for(flat_folder)
    assert found == (
        "100 images in 3 classes: red 50, green 30, blue 20",
        "shorter side 12 px in the median; train is all[:80%], val is all[80%:90%], test is all[90%:]",
    )
    assert recipe.data.path == str(flat_folder) and recipe.augment.flip and recipe.image.size == 96
    assert recipe.model.pretrained == "package/efficientnet_lite0" and recipe.export.quantize == "int8"


@pytest.mark.parametrize(("side", "size"), [(40, 96), (97, 128), (400, 160)])
def test_the_square_is_as_large_as_the_photos_up_to_160_pixels(tmp_path, side, size):
    for name in "ab":
        write_images(tmp_path / "photos" / name, 12, (9, 9, 9), side)
    assert recipe_for(tmp_path / "photos")[0].image.size == size


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train", "val", "test"), ("train", "val", "test")),
        (("Training", "validation"), ("Training", "validation", None)),
        (("train", "test"), ("train[:90%]", "train[90%:]", "test")),
    ],
)
def test_folders_that_are_splits_are_used_as_such(tmp_path, names, expected):
    for split in names:
        for label in "ab":
            write_images(tmp_path / "photos" / split / label, 12, (9, 9, 9))
    data = recipe_for(tmp_path / "photos")[0].data
    assert (data.train, data.val, data.test) == expected


def test_nested_folders_without_a_train_are_refused_with_what_is_expected(tmp_path):
    for label in "ab":
        write_images(tmp_path / "photos" / "batch1" / label, 2, (9, 9, 9))
    with pytest.raises(DataError, match="holds batch1, with folders inside, and none is called train: expected"):
        recipe_for(tmp_path / "photos")


def test_one_class_is_no_task(tmp_path):
    write_images(tmp_path / "photos" / "a", 6, (9, 9, 9))
    with pytest.raises(DataError, match="must hold a folder for each of two or more classes; found only 'a'"):
        recipe_for(tmp_path / "photos")


def test_classes_with_few_or_with_many_more_images_are_named_with_what_that_means(tmp_path):
    for label, count in (("many", 50), ("few", 4)):
        write_images(tmp_path / "photos" / label, count, (9, 9, 9))
    recipe, found = recipe_for(tmp_path / "photos")
    assert "fewer than 5 images of few: hardly one is left to measure them on" in found[2]
    assert "over ten times the images of others" in found[3]
    assert recipe.data.val == "all[60%:80%]"  # the one image of it that validation can have


def test_flip_may_not_be_guessed(flat_folder, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in ("train", "init"):
        outcome = cli(command, flat_folder)
        assert outcome.code == 2 and "say --flip or --no-flip" in outcome.err and "road sign" in outcome.err
    assert not (tmp_path / "photos.yaml").exists()
    with pytest.raises(RecipeError):
        make_starter(flat_folder, flip=None, command="")


def test_a_folder_of_files_that_are_no_images_is_told_at_once(tmp_path):
    for label in "ab":
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "1.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="none of 2 images can be read, such as .*1.jpg"):
        recipe_for(tmp_path / "photos")


def test_the_example_is_what_init_writes_for_photos_of_600(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for label in "abcdef":
        write_images(tmp_path / "photos" / label, 1, (9, 9, 9), 160)
        for number in range(1, 100):
            os.link(tmp_path / "photos" / label / "000.png", tmp_path / "photos" / label / f"{number:03}.png")
    (tmp_path / "recipes").mkdir()
    outcome = cli("init", "photos", "--flip", "--out", "recipes/images.yaml")
    assert outcome.code == 0 and outcome.out.endswith("Next: kcls train recipes/images.yaml\n"), outcome.err
    example, written = (folder / "recipes/images.yaml" for folder in (ROOT, tmp_path))
    assert example.read_text() == written.read_text()
    assert Path(load_recipe("recipes/images.yaml").data.path).resolve() == tmp_path / "photos"


def test_init_replaces_no_file_unless_told(flat_folder, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos.yaml").write_text("mine")
    outcome = cli("init", flat_folder, "--flip")
    assert outcome.code == 2 and "photos.yaml is there already; --force replaces it" in outcome.err
    assert (tmp_path / "photos.yaml").read_text() == "mine"
    assert cli("init", flat_folder, "--flip", "--force").code == 0
    assert load_recipe("photos.yaml").data.path == str(flat_folder)


def test_flip_is_refused_beside_a_recipe_and_a_run_beside_train(tiny_recipe, trained, cli):
    outcome = cli("train", tiny_recipe, "--flip")
    assert outcome.code == 2 and "a recipe has augment.flip" in outcome.err
    outcome = cli("train", trained.path, "--flip")
    assert outcome.code == 2 and "is a run: `kcls train --resume --out" in outcome.err


@pytest.mark.heavy
def test_a_folder_becomes_a_labelled_int8_file(flat_folder, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KCLS_RUNS", str(tmp_path / "runs"))
    small = ["train.stages=[{epochs: 10, freeze: backbone, views: 2}, {epochs: 2}]", "image.size=64"]
    outcome = cli("train", flat_folder, "--flip", *(w for change in small for w in ("--set", change)), "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["run"] == str(tmp_path / "runs/photos/1")
    assert result["evaluation"]["top1"] > 0.7  # of ten images, a third of which chance gets right
    assert "chosen by kcls train" in outcome.err  # the recipe is shown
    exported = result["exports"][0]["path"]
    predicted = cli("predict", exported, flat_folder / "red" / "000.png", "--json")
    assert json.loads(predicted.out)["predictions"][0]["label"] == "red"
