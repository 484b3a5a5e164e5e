"""Image folders: splits, stratified slices, and what is wrong with a folder."""

import numpy as np
import pytest
from conftest import write_images

from kcls.data.listing import Folder
from kcls.errors import DataError


def test_a_flat_folder_is_the_split_all(flat_folder):
    files = Folder(flat_folder).files("all", 0)
    assert files.class_names == ("blue", "green", "red")
    assert np.bincount(files.labels).tolist() == [20, 30, 50]
    assert all(files.class_names[label] in path for path, label in zip(files.paths, files.labels, strict=True))


def test_slices_are_stratified_disjoint_and_complete(flat_folder):
    parts = [Folder(flat_folder).files(f"all[{s}]", 0) for s in (":60%", "60%:80%", "80%:")]
    assert [np.bincount(p.labels).tolist() for p in parts] == [[12, 18, 30], [4, 6, 10], [4, 6, 10]]
    together = sum((p.paths for p in parts), [])
    assert len(set(together)) == len(together) == 100


def test_a_slice_is_drawn_with_its_seed_not_taken_from_the_start(flat_folder):
    def paths(seed):
        return Folder(flat_folder).files("all[:50%]", seed).paths

    assert paths(0) == paths(0)
    assert paths(0) != paths(1)
    assert paths(0) != Folder(flat_folder).files("all", 0).paths[:50]


def test_split_folders_are_found_by_name(tmp_path):
    for split, count in (("train", 6), ("test", 2)):
        for name in ("a", "b"):
            write_images(tmp_path / split / name, count, (99, 99, 99))
    assert len(Folder(tmp_path).files("train", 0).paths) == 12
    assert len(Folder(tmp_path).files("test", 0).paths) == 4
    with pytest.raises(DataError, match=r"no split 'tset'; did you mean 'test'\? \(its splits: test, train\)"):
        Folder(tmp_path).files("tset", 0)
    with pytest.raises(DataError, match="not flat, its splits are test, train"):
        Folder(tmp_path).files("all", 0)


def test_hidden_and_foreign_files_are_not_images(flat_folder):
    (flat_folder / "red" / "Thumbs.db").write_text("x")
    (flat_folder / "red" / ".hidden.png").write_text("x")
    (flat_folder / ".git").mkdir()
    (flat_folder / "red" / "folder.png").mkdir()
    write_images(flat_folder / "red" / ".ipynb_checkpoints", 1, (9, 9, 9))
    assert len(Folder(flat_folder).files("all", 0).paths) == 100


def test_an_empty_slice_is_told(flat_folder):
    with pytest.raises(DataError, match="is empty: 50% is not below 50%"):
        Folder(flat_folder).files("all[50%:50%]", 0)


@pytest.mark.parametrize(("names", "words"), [("a\u2028b", "cannot be printed"), ("RED", "differ in case only")])
def test_a_class_name_that_cannot_travel_is_refused(flat_folder, names, words):
    write_images(flat_folder / names, 2, (9, 9, 9))
    with pytest.raises(DataError, match=words):
        Folder(flat_folder).files("all", 0)


@pytest.mark.parametrize("expression", ["train[:90]", "train[:101%]", "[:3%]", "train[:10%", ""])
def test_a_malformed_split_is_refused(flat_folder, expression):
    with pytest.raises(DataError, match="is not of the form name or name"):
        Folder(flat_folder).files(expression, 0)


def test_an_empty_class_folder_is_named(flat_folder):
    (flat_folder / "yellow").mkdir()
    with pytest.raises(DataError, match=r"class folder .*yellow holds no image"):
        Folder(flat_folder).files("all", 0)


def test_one_class_is_not_a_classification(tmp_path):
    write_images(tmp_path / "only", 3, (1, 2, 3))
    with pytest.raises(DataError, match="two or more classes; found only 'only'"):
        Folder(tmp_path).files("all", 0)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*nowhere"):
        Folder(tmp_path / "nowhere").files("all", 0)
