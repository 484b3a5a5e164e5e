"""What is wrong with a data source is said before anything else happens."""

import os

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import write_images
from PIL import Image

import kcls
from kcls.data import opening
from kcls.data.listing import Folder
from kcls.data.opening import kept, open_data
from kcls.data.preprocess import Preprocess
from kcls.data.reading import reading
from kcls.data.stream import examples
from kcls.errors import DataError, RecipeError
from kcls.recipe import load_recipe


def open_(recipe, role="train", *overrides):
    return open_data(load_recipe(recipe, overrides).data).split(role)


def squares(source, size: int = 8):
    """All squares of a split with their labels, as evaluation reads them."""
    preprocess = Preprocess(size)
    return list(examples(kept(source, preprocess), preprocess.view))


def test_an_unknown_data_set_gets_the_nearest_name(tiny_recipe):
    with pytest.raises(RecipeError, match="no data set 'dgits' in TensorFlow Datasets; did you mean 'digits'"):
        open_(tiny_recipe, "train", "data.source=dgits")


def test_a_download_is_never_silent(tiny_recipe, tmp_path):
    with pytest.raises(DataError, match=r"mnist/3.0.1 is not in .*would download 11\.1 MiB; add --download"):
        open_(tiny_recipe, "train", "data.source=mnist", f"data.data_dir={tmp_path}")
    assert not list(tmp_path.glob("mnist*"))


def test_an_unknown_version_or_config_is_told(tiny_recipe):
    with pytest.raises(RecipeError, match="cannot be loaded at version 9.9.9"):
        open_(tiny_recipe, "train", "data.source=mnist:9.9.9")


def test_an_unknown_split_is_told_with_the_known_ones(tiny_recipe):
    with pytest.raises(DataError, match=r"digits has no split 'tarin': .*Should be one of \['train', 'test'\]"):
        open_(tiny_recipe, "train", "data.train=tarin")


def test_a_data_set_of_texts_is_refused(tiny_recipe, tmp_path, monkeypatch):
    builder = tfds.testing.DummyDataset(data_dir=tmp_path)
    builder.download_and_prepare()
    monkeypatch.setattr(tfds, "builder", lambda *_, **__: builder)
    with pytest.raises(DataError, match="not for image classification: its features are id"):
        open_(tiny_recipe, "train", "data.source=dummy_dataset", "data.train=train", "data.val=val")


def test_a_real_tensorflow_data_set_is_downloaded_when_allowed_and_read(tiny_recipe, tmp_path, monkeypatch):
    # The real mnist builder over files of the real format, in the place of its download.
    def fetch(manager, urls):
        files = {}
        for name in urls:
            count = 60 if name.startswith("train") else 10_000
            shape = (count,) if name.endswith("labels") else (count, 28, 28)
            header = b"\0\0\x08" + bytes([len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
            files[name] = tmp_path / name
            files[name].write_bytes(header + np.full(shape, 7, np.uint8).tobytes())
        return files

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", fetch)
    monkeypatch.setattr("tensorflow_datasets.image_classification.mnist._TRAIN_EXAMPLES", 60)  # of 60,000
    recipe = load_recipe(
        tiny_recipe, ["data.source=mnist", f"data.data_dir={tmp_path}", "data.val=test[:1%]", "data.test=null"]
    )
    split = open_data(recipe.data, download=True).split("val")
    assert split.class_names == tuple("0123456789") and split.count == 100
    _, image, label = squares(split)[0]
    assert (image.numpy() == 7).all() and image.shape == (8, 8, 3) and label == 7


def test_classes_must_be_the_same_in_every_split(tmp_path, folder_recipe):
    root = tmp_path / "split"
    for split, names in (("train", "abc"), ("val", "ab"), ("test", "abcd")):
        for name in names:
            write_images(root / split / name, 4, (9, 99, 9))
    folders = [f"data.path={root}", "data.train=train", "data.val=val", "data.test=test"]
    assert open_(folder_recipe, "train", *folders).count == 12
    with pytest.raises(DataError, match="classes of val differ from those of train in .*: missing c;"):
        open_(folder_recipe, "val", *folders)
    with pytest.raises(DataError, match="not in train d;"):
        open_(folder_recipe, "test", *folders)


def test_a_slice_that_leaves_a_class_out_of_training_is_refused(folder_recipe):
    with pytest.raises(DataError, match="has no image of blue; give train a larger part"):
        open_(folder_recipe, "train", "data.train=all[:2%]")


@pytest.mark.parametrize("in_memory", [True, False])
def test_every_undecodable_file_of_a_folder_is_named_with_its_reason(
    folder_recipe, flat_folder, monkeypatch, in_memory
):
    whole = (flat_folder / "red" / "000.png").read_bytes()
    (flat_folder / "red" / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (flat_folder / "red" / "zero.jpg").touch()
    (flat_folder / "green" / "text.jpg").write_text("not an image")
    if not in_memory:
        monkeypatch.setattr(opening, "MEMORY_LIMIT", 0)
    split = open_(folder_recipe, "train", "data.train=all", "data.val=val", "data.test=null")
    with pytest.raises(DataError) as caught:
        reading(split, lambda: squares(split))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("3 of 103 images of split 'train' cannot be decoded")
    assert sorted(line.rsplit("/", 1)[1].split(" (")[0] for line in lines[1:]) == [
        "text.jpg: not an image",
        "truncated.png: damaged or truncated image",
        "zero.jpg: the file is empty",
    ]


def test_odd_but_whole_images_are_trained_on(folder_recipe, flat_folder):
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (9, 14, 3), dtype=np.uint8))
    picture.convert("CMYK").save(flat_folder / "red" / "cmyk.jpg")
    picture.quantize(8).save(flat_folder / "red" / "palette.png")
    picture.convert("RGBA").save(flat_folder / "red" / "alpha.png")
    Image.fromarray(random.integers(0, 2**16, (9, 14), dtype=np.uint16)).save(flat_folder / "red" / "sixteen.png")
    picture.save(flat_folder / "red" / "moving.gif", save_all=True, append_images=[picture.rotate(90)])
    source = open_(folder_recipe, "train", "data.train=all", "data.val=val", "data.test=null")
    assert len(squares(source)) == 105


def test_a_split_knows_the_names_and_labels_of_its_images(folder_recipe, tiny_recipe):
    source = open_(folder_recipe, "val")
    assert len(source.names) == len(source.labels) == source.count == 20
    assert [name.split("/")[0] for name in source.names] == [source.class_names[label] for label in source.labels]
    digits = open_(tiny_recipe, "val")
    assert len(set(digits.names)) == digits.count and digits.names[0].startswith("digits-train.tfrecord")
    assert digits.labels.tolist() == [int(label) for *_, label in squares(digits)]


def test_a_folder_is_read_once_a_command(folder_recipe, tmp_path, monkeypatch):
    seen = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: seen.append(str(path)) or scandir(path))
    kcls.train(folder_recipe, out=tmp_path / "run")
    photos = [path for path in seen if "photos" in path]
    assert len(photos) == len(set(photos)) == 4  # the folder and its three classes


def test_a_loop_of_links_ends(flat_folder):
    (flat_folder / "red" / "again").symlink_to(flat_folder)
    assert len(Folder(flat_folder).files("all", 0).paths) == 100
