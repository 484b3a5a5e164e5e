"""A recipe is read into one validated object, and an error says where, what came and what was expected."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from pydantic import ValidationError

from kcls.errors import RecipeError
from kcls.recipe import changed_keys, load_recipe

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("**/*.yaml"))

TEXT = """\
model: {name: resnet20}
data:
  source: digits
  train: train[:90%]
  val: train[90%:]
image: {size: 16}
augment: {flip: false, crop_padding: 2}
optimizer:
  name: sgd
  lr: 0.1
  momentum: 0.9
train: {epochs: 30, batch_size: 64}
export:
  formats: [saved_model, tflite]
  quantize: int8
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Loads a text as the recipe r.yaml of the current folder, so that messages begin with r.yaml."""
    monkeypatch.chdir(tmp_path)

    def load(text=TEXT, *overrides):
        Path("r.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_recipe("r.yaml", overrides)

    return load


def edited(old, new):
    assert TEXT.count(old) == 1
    return TEXT.replace(old, new)


def exactly(*lines):
    return f"^{re.escape(chr(10).join(lines))}$"


def begins(line):
    return f"^{re.escape(line)}"


# --- what is read ---


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_project_loads(path):
    assert load_recipe(path).to_yaml()


def test_values_arrive(load):
    recipe = load()
    assert (recipe.model.name, recipe.image.size, recipe.augment.flip) == ("resnet20", 16, False)
    assert (recipe.optimizer.lr, recipe.train.batch_size, recipe.export.quantize) == (0.1, 64, "int8")


@pytest.mark.parametrize("number, value", [("1e-3", 0.001), ("5E-4", 0.0005), (".5e+1", 5.0), ("2.e0", 2), ("1", 1)])
def test_a_number_in_any_usual_form_is_a_number(load, number, value):
    lr = load(edited("lr: 0.1", f"lr: {number}")).optimizer.lr
    assert lr == value
    assert isinstance(lr, float)


def test_an_option_of_the_model_is_read(load):
    assert load(TEXT, "model.options.width=8").model.options == {"width": 8}


def test_the_export_section_may_be_left_out(load):
    assert load(TEXT[: TEXT.index("export:")]).export is None


def test_merged_yaml_keys_are_read(load):
    text = edited("{flip: false, crop_padding: 2}", "{<<: &more {crop_padding: 3}, flip: false}")
    assert load(text).augment.crop_padding == 3


def test_a_recipe_cannot_be_changed(load):
    recipe = load()
    with pytest.raises(ValidationError, match="frozen"):
        recipe.train.epochs = 3
    with pytest.raises(ValidationError, match="frozen"):
        recipe.train = None


def test_reading_a_recipe_needs_neither_tensorflow_nor_keras():
    code = "import sys, kcls.recipe; print(*{'tensorflow', 'keras', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []


# --- errors: the file ---


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match=exactly(f"no recipe at {tmp_path / 'none.yaml'}")):
        load_recipe(tmp_path / "none.yaml")


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match=begins(f"cannot read the recipe {tmp_path}: ")):
        load_recipe(tmp_path)


def test_a_file_that_is_not_text_is_refused(load):
    with pytest.raises(RecipeError, match="^cannot read the recipe r.yaml: .*utf-8"):
        load(b"\xff\xfe\x00")


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n"])
def test_an_empty_recipe_is_refused(load, text):
    with pytest.raises(RecipeError, match=exactly("r.yaml: the recipe is empty")):
        load(text)


@pytest.mark.parametrize("text", ["- model\n- data\n", "resnet20", "3"])
def test_a_recipe_that_is_no_mapping_is_refused(load, text):
    keys = "model, method, data, image, augment, optimizer, train, export"
    expected = f"r.yaml: a recipe is a mapping with the keys {keys}"
    with pytest.raises(RecipeError, match=exactly(expected)):
        load(text)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("model: [\n", "r.yaml:2: .*expected the node content, but found '<stream end>'"),
        ("a: 1\n\tb: 2\n", r"r.yaml:2: .*found character '\\t' that cannot start any token"),
        (
            "a: 1\n---\nb: 2\n",
            "r.yaml:2: expected a single document in the stream, but found another document",
        ),
        ("a: *b\n", "r.yaml:1: found undefined alias 'b'"),
        ("a: 1\nb: !!python/object:os.system x\n", "r.yaml:2: could not determine a constructor"),
        ("a: 1\n{[1, 2]: 3}: 4\n", "r.yaml:2: a key must be a name, not a list or a mapping"),
        ("a: \x00\n", "r.yaml: not YAML: unacceptable character"),
        ("a: 2024-13-45\n", "r.yaml: not YAML: month must be in 1..12"),
        ("a: &a [*a]\n", "r.yaml:1: nested too deeply; does an alias contain itself"),
    ],
)
def test_a_text_that_is_not_yaml_is_refused_with_its_line(load, text, expected):
    with pytest.raises(RecipeError, match=f"^{expected}"):
        load(text)


def test_a_section_given_twice_is_refused_with_both_lines(load):
    with pytest.raises(RecipeError, match=exactly("r.yaml:16: key 'train' was already given in line 12")):
        load(TEXT + "train: {epochs: 2, batch_size: 2}\n")


def test_a_key_given_twice_is_refused_with_both_lines(load):
    text = edited("  momentum: 0.9\n", "  momentum: 0.9\n  lr: 0.2\n")
    with pytest.raises(RecipeError, match=exactly("r.yaml:12: key 'lr' was already given in line 10")):
        load(text)


# --- errors: a key ---


def test_a_misspelt_key_gives_its_line_and_the_near_name(load):
    expected = (
        "r.yaml:11: unknown key 'optimizer.momentun'; did you mean 'momentum'? (known: name, lr, momentum, "
        "nesterov, weight_decay, schedule, warmup_epochs, milestones, decay)"
    )
    with pytest.raises(RecipeError, match=exactly(expected)):
        load(edited("momentum", "momentun"))


def test_a_misspelt_section_gives_its_line_and_the_near_name(load):
    known = "(known: model, method, data, image, augment, optimizer, train, export)"
    with pytest.raises(RecipeError) as caught:
        load(edited("optimizer:", "optimiser:"))
    assert set(str(caught.value).splitlines()) == {
        "r.yaml: optimizer is missing",
        f"r.yaml:8: unknown key 'optimiser'; did you mean 'optimizer'? {known}",
    }


@pytest.mark.parametrize("area", ["[0.5, 0.2]", "[0, 1]"])
def test_a_range_of_areas_that_is_empty_is_refused(load, area):
    with pytest.raises(RecipeError, match="random_resized_crop is the least and the largest fraction of the area, not"):
        load(TEXT, "augment.crop_padding=null", f"augment.random_resized_crop={area}")


def test_two_ways_of_cropping_are_refused(load):
    with pytest.raises(RecipeError, match="crop_padding has no effect with random_resized_crop, which crops already"):
        load(TEXT, "augment.random_resized_crop=[0.08, 1]")


def test_an_unknown_key_without_a_near_name_lists_the_known_ones(load):
    expected = "r.yaml:7: unknown key 'augment.zzz' (known: flip, random_resized_crop, crop_padding, rotation, scale)"
    with pytest.raises(RecipeError, match=exactly(expected)):
        load(edited("crop_padding: 2", "zzz: 2"))


@pytest.mark.parametrize(
    "old, field, line",
    [
        ("flip: false, ", "augment.flip", 7),
        ("size: 16", "image.size", 6),
        ("  train: train[:90%]\n", "data.train", 2),
        ("  val: train[90%:]\n", "data.val", 2),
        ("  source: digits\n", "data.source", 2),
        ("  lr: 0.1\n", "optimizer.lr", 8),
        ("  formats: [saved_model, tflite]\n", "export.formats", 13),
        ("name: resnet20", "model.name", 1),
    ],
)
def test_a_missing_key_is_named_with_the_line_of_its_section(load, old, field, line):
    with pytest.raises(RecipeError, match=exactly(f"r.yaml:{line}: {field} is missing")):
        load(edited(old, ""))


def test_every_missing_section_is_named(load):
    with pytest.raises(RecipeError) as caught:
        load("export: {formats: [tflite]}\n")
    missing = [f"r.yaml: {name} is missing" for name in ("model", "data", "augment", "optimizer", "train")]
    assert str(caught.value).splitlines() == missing


def test_all_errors_come_at_once(load):
    with pytest.raises(RecipeError) as caught:
        load(TEXT, "train.epochs=0", "augment.flip=maybe")
    assert len(str(caught.value).splitlines()) == 2


# --- errors: a value ---


@pytest.mark.parametrize(
    "old, new, where, problem",
    [
        ("lr: 0.1", "lr: fast", "10: optimizer.lr", "input should be a valid number, not 'fast'"),
        ("lr: 0.1", 'lr: "0.1"', "10: optimizer.lr", "input should be a valid number, not '0.1'"),
        ("lr: 0.1", "lr: true", "10: optimizer.lr", "input should be a valid number, not True"),
        ("lr: 0.1", "lr: 0", "10: optimizer.lr", "input should be greater than 0, not 0"),
        ("lr: 0.1", "lr: .inf", "10: optimizer.lr", "input should be a finite number, not inf"),
        ("lr: 0.1", "lr: .nan", "10: optimizer.lr", "input should be a finite number, not nan"),
        ("lr: 0.1", "lr:", "10: optimizer.lr", "input should be a valid number, not None"),
        (
            "name: sgd",
            "name: sdg",
            "9: optimizer.name",
            "input should be 'sgd' or 'adamw', not 'sdg'; did you mean 'sgd'?",
        ),
        ("name: sgd", "name: zzz", "9: optimizer.name", "input should be 'sgd' or 'adamw', not 'zzz'"),
        ("epochs: 30", "epochs: 30.0", "12: train.epochs", "input should be a valid integer, not 30.0"),
        ("epochs: 30", "epochs: 0", "12: train.epochs", "input should be greater than or equal to 1, not 0"),
        ("flip: false", "flip: 0", "7: augment.flip", "input should be a valid boolean, not 0"),
        (
            "size: 16",
            "size: 7",
            "6: image.size",
            "input should be greater than or equal to 8, not 7",
        ),
        (
            "size: 16",
            "size: [16, 16]",
            "6: image.size",
            "input should be a valid integer, not [16, 16]",
        ),
        ("train[:90%]", "7", "4: data.train", "input should be a valid string, not 7"),
        (
            "saved_model, tflite",
            "saved_model, tflit",
            "14: export.formats.1",
            "input should be 'saved_model', 'tflite' or 'web', not 'tflit'; did you mean 'tflite'?",
        ),
        (
            "{name: resnet20}",
            "{name: resnet20, options: {width: wide}}",
            "1: model.options.width",
            "expected a number or true or false, not 'wide'",
        ),
        (
            "{name: resnet20}",
            "{name: resnet20, options: {width: .inf}}",
            "1: model.options.width",
            "expected a number or true or false, not inf",
        ),
        (
            "{name: resnet20}",
            "resnet20",
            "1: model",
            "input should be a valid dictionary or instance of ModelSection, not 'resnet20'",
        ),
    ],
)
def test_a_wrong_value_gives_line_field_what_came_and_what_was_expected(load, old, new, where, problem):
    with pytest.raises(RecipeError, match=exactly(f"r.yaml:{where}: {problem}")):
        load(edited(old, new))


@pytest.mark.parametrize(
    "override",
    [
        "model.drop_rate=1",
        "image.size=4097",
        "image.crop_fraction=0",
        "image.crop_fraction=1.1",
        "image.mean=[0.5, 0.5]",
        "image.mean=[.nan, 0.5, 0.5]",
        "image.mean=0.5",
        "image.fit=squash",
        "image.interpolation=nearest",
        "augment.crop_padding=-1",
        "augment.rotation=181",
        "augment.scale=1",
        "optimizer.momentum=1",
        "optimizer.weight_decay=-1e-4",
        "optimizer.schedule=linear",
        "optimizer.warmup_epochs=-1",
        "train.batch_size=0",
        "train.label_smoothing=1",
        "train.precision=float16",
        "train.strategy=tpu",
        "train.seed=-1",
        "export.quantize=int4",
        "export.max_drop=1.1",
        "export.calibration_images=0",
    ],
)
def test_a_value_outside_its_range_is_refused(load, override):
    field = override.partition("=")[0]
    with pytest.raises(RecipeError, match=begins(f"--set {override}: {field}")):
        load(TEXT, override)


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (["optimizer.name=adamw"], "r.yaml:8: optimizer: momentum has no effect with adamw, only with sgd"),
        (
            ["optimizer.name=adamw", "optimizer.momentum=null", "optimizer.nesterov=false"],
            "r.yaml:8: optimizer: nesterov has no effect with adamw, only with sgd",
        ),
        (
            ["optimizer.milestones=[3]"],
            "r.yaml:8: optimizer: milestones has no effect with schedule 'cosine', only with 'step'",
        ),
        (
            ["optimizer.schedule=constant", "optimizer.decay=0.2"],
            "r.yaml:8: optimizer: decay has no effect with schedule 'constant', only with 'step'",
        ),
        (["data.path=/images"], "r.yaml:2: data: path has no effect unless source is 'folder'"),
        (["data.split_seed=3"], "r.yaml:2: data: split_seed has no effect unless source is 'folder'"),
        (
            ["data.source=folder", "data.path=/images", "data.data_dir=/tfds"],
            "r.yaml:2: data: data_dir has no effect with source 'folder', whose images are at path",
        ),
        (
            ["image.fit=pad", "image.crop_fraction=0.9"],
            "r.yaml:6: image: crop_fraction has no effect with fit 'pad', which shows the whole image",
        ),
        (
            ["export.formats=[saved_model]"],
            "r.yaml:13: export: quantize has no effect without format 'tflite' or 'web'",
        ),
        (
            ["export.quantize=float16", "export.calibration_images=9"],
            "r.yaml:13: export: calibration_images has no effect with quantize 'float16', which needs no images",
        ),
    ],
)
def test_a_field_without_effect_is_refused_with_the_reason(load, overrides, expected):
    with pytest.raises(RecipeError, match=exactly(expected)):
        load(TEXT, *overrides)


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (
            ["data.source=folder"],
            "r.yaml:2: data: source 'folder' needs path: the folder that holds the images",
        ),
        (
            ["image.std=[0.5, 0, 0.5]"],
            "r.yaml:6: image: std must be above 0 in every channel, not [0.5, 0.0, 0.5]",
        ),
        (
            ["optimizer.nesterov=true", "optimizer.momentum=0"],
            "r.yaml:8: optimizer: nesterov needs momentum above 0",
        ),
        (
            ["optimizer.schedule=step"],
            "r.yaml:8: optimizer: schedule 'step' needs milestones: the epochs at which lr is multiplied by decay",
        ),
        (
            ["optimizer.schedule=step", "optimizer.milestones=[20, 10]"],
            "r.yaml:8: optimizer: milestones must rise and be above 0, not [20.0, 10.0]",
        ),
        (
            ["optimizer.schedule=step", "optimizer.milestones=[10, 10]"],
            "r.yaml:8: optimizer: milestones must rise and be above 0, not [10.0, 10.0]",
        ),
        (
            ["optimizer.schedule=step", "optimizer.milestones=[0, 10]"],
            "r.yaml:8: optimizer: milestones must rise and be above 0, not [0.0, 10.0]",
        ),
        (
            ["optimizer.schedule=step", "optimizer.milestones=[10, 30]"],
            "--set optimizer.milestones=[10, 30]: optimizer.milestones [30.0] would never be reached: "
            "train.epochs is 30",
        ),
        (
            ["optimizer.warmup_epochs=30"],
            "--set optimizer.warmup_epochs=30: optimizer.warmup_epochs (30) must be below train.epochs (30)",
        ),
        (
            ["augment.crop_padding=16"],
            "--set augment.crop_padding=16: augment.crop_padding (16 px) must be below image.size (16 px)",
        ),
        (
            ["export.formats=[]", "export.quantize=null"],
            "r.yaml:13: export: formats is empty: name saved_model, tflite, web or several, or leave the section out",
        ),
    ],
)
def test_fields_that_contradict_each_other_are_refused(load, overrides, expected):
    with pytest.raises(RecipeError, match=exactly(expected)):
        load(TEXT, *overrides)


# --- --set ---


def test_an_override_replaces_the_value(load):
    assert load(TEXT, "optimizer.lr=5e-2").optimizer.lr == 0.05


def test_the_last_override_wins(load):
    assert load(TEXT, "optimizer.lr=1", "optimizer.lr=2").optimizer.lr == 2


@pytest.mark.parametrize("override", ["optimizer.momentum=null", "optimizer.momentum=", "optimizer.momentum=~"])
def test_null_removes_a_key(load, override):
    assert "momentum" not in load(TEXT, override, "optimizer.name=adamw").optimizer.model_fields_set


def test_null_removes_a_section(load):
    assert load(TEXT, "export=null").export is None


def test_removing_from_a_section_that_is_not_there_changes_nothing(load):
    assert load(TEXT, "export=null", "export.quantize=null").export is None


def test_removing_a_needed_key_is_refused(load):
    with pytest.raises(RecipeError, match=exactly("--set augment.flip=null: augment.flip is missing")):
        load(TEXT, "augment.flip=null")


def test_removing_a_misspelt_key_is_refused(load):
    expected = "--set optimizer.momentun=null: unknown key 'optimizer.momentun'; did you mean 'momentum'?"
    with pytest.raises(RecipeError, match=exactly(expected)):
        load(TEXT, "optimizer.momentun=null")


def test_an_override_may_begin_a_section(load):
    assert load(TEXT, "export=null", "export.formats=[tflite]").export.formats == ("tflite",)


def test_a_misspelt_key_in_an_override_gives_the_near_name(load):
    with pytest.raises(
        RecipeError, match=begins("--set train.epoch=3: unknown key 'train.epoch'; did you mean 'epochs'?")
    ):
        load(TEXT, "train.epoch=3")


def test_a_misspelt_section_in_an_override_gives_the_near_name(load):
    expected = "--set optimiser.lr=3: unknown key 'optimiser'; did you mean 'optimizer'?"
    with pytest.raises(RecipeError, match=begins(expected)):
        load(TEXT, "optimiser.lr=3")


@pytest.mark.parametrize("override", ["optimizer.lr", "=3", "optimizer..lr=3", ".lr=3", ""])
def test_an_override_of_another_form_is_refused(load, override):
    expected = f"--set {override}: expected section.key=value, such as optimizer.lr=0.05"
    with pytest.raises(RecipeError, match=exactly(expected)):
        load(TEXT, override)


def test_an_override_below_a_value_is_refused(load):
    with pytest.raises(RecipeError, match=exactly("--set optimizer.lr.max=3: lr has no keys of its own")):
        load(TEXT, "optimizer.lr.max=3")


def test_an_override_that_is_not_yaml_is_refused(load):
    with pytest.raises(RecipeError, match=begins("--set train.epochs=[:1: ")):
        load(TEXT, "train.epochs=[")


# --- paths ---

FOLDER = TEXT.replace("source: digits", "source: folder\n  path: images")


def test_a_relative_path_is_taken_from_the_recipes_folder(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "r.yaml").write_text(FOLDER)
    monkeypatch.chdir(tmp_path)
    assert load_recipe("recipes/r.yaml").data.path == str(tmp_path / "recipes" / "images")


def test_a_relative_path_in_an_override_is_taken_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "r.yaml").write_text(FOLDER)
    monkeypatch.chdir(tmp_path)
    assert load_recipe("recipes/r.yaml", ["data.path=here"]).data.path == str(tmp_path / "here")


def test_an_override_of_another_key_leaves_the_path_alone(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "r.yaml").write_text(FOLDER)
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("recipes/r.yaml", ["image.size=32"])
    assert recipe.data.path == str(tmp_path / "recipes" / "images")


def test_an_absolute_path_and_home_are_kept(load, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert load(FOLDER.replace("path: images", "path: /images")).data.path == "/images"
    assert load(FOLDER.replace("path: images", "path: ~/images")).data.path == "/home/someone/images"


def test_a_relative_data_dir_is_taken_from_the_recipes_folder(load, tmp_path):
    text = edited("source: digits", "source: digits\n  data_dir: tfds")
    assert load(text).data.data_dir == str(tmp_path / "tfds")


# --- the resolved recipe ---

VARIANTS = {
    "as_it_is": [],
    "step": ["optimizer.schedule=step", "optimizer.milestones=[10, 20.5]", "optimizer.nesterov=true"],
    "adamw": ["optimizer.name=adamw", "optimizer.momentum=null", "optimizer.lr=1e-5"],
    "constant": ["optimizer.schedule=constant", "optimizer.warmup_epochs=0.5"],
    "folder": ["data.source=folder", 'data.path="some images/ü: # 1"', "data.split_seed=7"],
    "pad": ["image.fit=pad", "image.mean=[0.1, 0.2, 0.3]", "image.std=[1, 1, 1]"],
    "options": ["model.options={width: 8, drop_path_rate: 1e-2}", "model.drop_rate=0.5"],
    "no_export": ["export=null"],
    "saved_model": ["export.formats=[saved_model]", "export.quantize=null"],
    "float16": ["export.quantize=float16", "export.max_drop=0"],
    "test_split": ["data.test=test[10%:20%]", "train.precision=mixed_bfloat16", "train.strategy=one_device"],
}

each_variant = pytest.mark.parametrize("overrides", VARIANTS.values(), ids=VARIANTS)


@each_variant
def test_the_resolved_recipe_reloads_to_an_equal_one(load, overrides):
    recipe = load(TEXT, *overrides)
    assert load(recipe.to_yaml()) == recipe


@each_variant
def test_the_resolved_recipe_resolves_to_itself(load, overrides):
    text = load(TEXT, *overrides).to_yaml()
    assert load(text).to_yaml() == text


def test_the_resolved_recipe_holds_the_defaults_that_have_an_effect(load):
    resolved = load().resolved()
    assert resolved["optimizer"] == {
        "name": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 0.0,
        "schedule": "cosine",
        "warmup_epochs": 0.0,
    }
    assert resolved["train"]["seed"] == 0
    assert "path" not in resolved["data"]


def test_changed_keys_say_what_became_what(load):
    new = load(TEXT, "optimizer.lr=0.05", "train.epochs=10")
    assert changed_keys(load(), new) == ["optimizer.lr: 0.1 -> 0.05", "train.epochs: 30 -> 10"]


def test_changed_keys_name_what_is_new_and_what_is_gone(load):
    new = load(TEXT, "export.quantize=none", "data.test=test")
    assert changed_keys(load(), new) == [
        "data.test: None -> test",
        "export.quantize: int8 -> none",
        "export.max_drop: 0.01 -> None",
        "export.min_agreement: 0.9 -> None",
        "export.calibration_images: 256 -> None",
    ]


def test_equal_recipes_have_no_changed_keys(load):
    assert changed_keys(load(), load(load().to_yaml())) == []


@pytest.mark.parametrize(
    ("train", "val", "shared"),
    [
        ("train[:90%]", "train[90%:]", False),
        ("train[:90%]", "train[80%:]", True),
        ("train", "train[90%:]", True),
        ("train", "train", True),
        ("train", "test", False),
        ("all[:80%]", "test", True),
        ("my-set[:80%]", "my-set[70%:]", True),
        ("train[:]", "train[60%:]", True),
        ("train[10%:20%]", "train[:10%]", False),
        ("train[:1000]", "train[999:]", True),
        ("train[:1000]", "train[1000:]", False),
        ("train[:1000]", "train[90%:]", False),  # cannot be known here
    ],
)
def test_splits_that_share_images_with_the_training_are_refused(tmp_path, train, val, shared):
    text = (Path(__file__).parent.parent / "recipes" / "digits.yaml").read_text()
    path = tmp_path / "r.yaml"
    path.write_text(text)
    overrides = [f"data.train={train}", f"data.val={val}", "data.test=null"]
    if shared:
        with pytest.raises(RecipeError, match=r"train \(.*\) and val \(.*\) share images"):
            load_recipe(path, overrides)
    else:
        load_recipe(path, overrides)


# --- the recipes that kcls brings ---


def test_the_recipes_that_kcls_brings_are_listed_printed_and_trained_by_name(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed = cli("recipes")
    assert listed.code == 0 and "digits\n    ResNet-20 on" in listed.out and "images\n" in listed.out
    assert cli("recipes", "digits").out == (ROOT / "recipes" / "digits.yaml").read_text()
    trained = cli("train", "digits", "--set", "model.name=resnet2O")  # it was found, and its mistake is told
    assert trained.code == 2 and "unknown model 'resnet2O'" in trained.err
    Path("digits").write_text("model: 3")  # a file of that name wins
    assert "digits:1: model:" in cli("train", "digits").err


def test_a_misspelt_recipe_gets_the_nearest_name(cli):
    outcome = cli("recipes", "digit")
    assert outcome.code == 2 and "no recipe 'digit'; did you mean 'digits'?" in outcome.err
