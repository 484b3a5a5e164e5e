"""A checkpoint gives back what was saved, or says what is wrong with it."""

import keras
import numpy as np
import pytest

from kcls.errors import KclsError
from kcls.files import replacing, write_text
from kcls.training.checkpoint import load_checkpoint, save_checkpoint


def variables(*values) -> list:
    return [keras.Variable(value, name="same_name") for value in values]


def test_values_and_meta_come_back_bit_by_bit(tmp_path):
    saved = variables(np.float32([1.5, -np.pi]), np.int64(7), np.uint32([1, 2]))
    save_checkpoint(tmp_path / "c.npz", saved, {"step": 3, "best": {"val_top1": 0.5}})
    restored = variables(np.float32([0, 0]), np.int64(0), np.uint32([0, 0]))
    meta = {"step": 3, "best": {"val_top1": 0.5}}
    assert load_checkpoint(tmp_path / "c.npz", restored) == meta
    for a, b in zip(saved, restored, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:80] + b"\0" * 40 + b[120:]])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "c.npz"
    save_checkpoint(path, variables(np.arange(100.0, dtype="float32")), {"step": 3})
    path.write_bytes(damage(path.read_bytes()))
    target = variables(np.zeros(100, "float32"))
    with pytest.raises(KclsError, match=r"checkpoint .*c\.npz is damaged"):
        load_checkpoint(path, target)
    assert (target[0].numpy() == 0).all()


def test_the_checkpoint_of_another_model_is_refused(tmp_path):
    save_checkpoint(tmp_path / "c.npz", variables(np.float32(1)), {})
    with pytest.raises(KclsError, match="is of another model"):
        load_checkpoint(tmp_path / "c.npz", variables(np.float32(1), np.float32(2)))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(KclsError, match=r"cannot write .*file.txt: disk full"), replacing(path) as temporary:
        temporary.write_text("half of the new")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "folder"
    for content in ("old", "new"):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / content).touch()
    assert [p.name for p in path.iterdir()] == ["new"]
