"""Large arrays of a model: mapped as they were written, whatever their layout; damaged, foreign and hostile files are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nearward.tabular.errors import ArtifactError
from nearward.tabular.persistence import artifact, hashed_files, memory_limit
from nearward.tabular.persistence.artifact import MANIFEST, read_model, write_model

RECORDS = pl.DataFrame({"age": [61.0, None]})
LARGE = np.arange(300, dtype=np.float32).reshape(50, 6)  # 1,200 bytes: five blocks of 256


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashed_files, "BLOCK", 256)
    monkeypatch.setattr(hashed_files, "LARGE", 512)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path / "m", {}, {"large": LARGE, "small": np.arange(5)}, RECORDS)
    return tmp_path / "m"


def array_file(folder: Path) -> Path:
    (path,) = folder.glob("array-*.bin")
    return path


def rewrite(folder: Path, **changes: object) -> None:
    """Change keys of a manifest, with a valid digest."""
    body = {**json.loads((folder / MANIFEST).read_text()), **changes}
    (folder / MANIFEST).write_bytes(artifact._serialize({key: value for key, value in body.items() if key != "sha256"}))


def test_a_large_array_is_a_file_of_its_own_and_is_mapped_for_reading(model: Path) -> None:
    assert array_file(model).read_bytes() == LARGE.tobytes()
    tensors = read_model(model).tensors
    np.testing.assert_array_equal(tensors["large"], LARGE)
    assert isinstance(tensors["large"].base, np.memmap)
    assert not tensors["large"].flags.writeable
    assert not isinstance(tensors["small"].base, np.memmap)


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(LARGE),
        np.arange(2000, dtype=np.int32)[::5].reshape(8, 50),
        np.arange(150, dtype=">f8"),
        np.arange(1200) % 3 == 0,
        np.arange(600, dtype=np.float16).reshape(2, 3, 100),
    ],
)
def test_every_layout_and_dtype_is_read_as_it_was_written(array: np.ndarray, tmp_path: Path) -> None:
    write_model(tmp_path, {}, {"x": array}, RECORDS)
    assert array_file(tmp_path).stat().st_size == array.nbytes
    loaded = read_model(tmp_path).tensors["x"]
    np.testing.assert_array_equal(loaded, array)
    assert loaded.dtype == array.dtype.newbyteorder("<")


def test_equal_arrays_share_a_file_and_a_mapped_one_is_written_again_as_it_is(model: Path, tmp_path: Path) -> None:
    mapped = read_model(model).tensors["large"]
    write_model(tmp_path / "again", {}, {"a": mapped, "b": mapped}, RECORDS)
    assert array_file(tmp_path / "again").read_bytes() == array_file(model).read_bytes()
    again = read_model(tmp_path / "again").tensors
    np.testing.assert_array_equal(again["a"], LARGE)
    np.testing.assert_array_equal(again["b"], LARGE)


def test_what_is_mapped_survives_a_save_into_the_same_folder(model: Path) -> None:
    mapped = read_model(model).tensors["large"]
    inode = array_file(model).stat().st_ino
    write_model(model, {}, {"large": mapped}, RECORDS)
    assert array_file(model).stat().st_ino == inode  # the same content: the file stays
    write_model(model, {}, {"large": mapped + 1}, RECORDS)
    np.testing.assert_array_equal(mapped, LARGE)
    np.testing.assert_array_equal(read_model(model).tensors["large"], LARGE + 1)


def test_a_corrupt_block_is_named(model: Path) -> None:
    path = array_file(model)
    content = bytearray(path.read_bytes())
    content[2 * 256 + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"{path.name} is corrupt \(its sha256 differs in block 3 of 5\)"):
        read_model(model)


def test_a_save_repairs_a_corrupt_file_of_the_same_name(model: Path) -> None:
    array_file(model).write_bytes(bytes(1200))
    write_model(model, {}, {"large": LARGE}, RECORDS)
    np.testing.assert_array_equal(read_model(model).tensors["large"], LARGE)


@pytest.mark.parametrize(("size", "message"), [(1199, "smaller than 1200"), (0, "smaller"), (1201, "larger than 1200"), (10**13, "larger")])
def test_another_size_is_refused_before_a_block_is_read(model: Path, size: int, message: str) -> None:
    os.truncate(array_file(model), size)
    with pytest.raises(ArtifactError, match=message):
        read_model(model)


def test_a_missing_file_and_a_link_are_refused(model: Path, tmp_path: Path) -> None:
    path = array_file(model)
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="missing, or not a plain file"):
        read_model(model)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="missing, or not a plain file"):
        read_model(model)


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "|O"},
        {"dtype": "<f8"},
        {"dtype": ["<f4"]},
        {"dtype": "<f4,<f4"},
        {"shape": [50, 7]},
        {"shape": [-50, -6]},
        {"shape": [50.0, 6]},
        {"shape": [True, 300]},
        {"shape": 300},
        {"shape": [1] * 40 + [300]},
        {"shape": [2**62, 2**62, 0]},
        {"file": "array-0123456789abcdef.bin"},
        {"file": "../array.bin"},
        {"file": None},
    ],
)
def test_a_description_that_does_not_fit_its_file_is_refused(model: Path, change: dict[str, object]) -> None:
    arrays = json.loads((model / MANIFEST).read_text())["arrays"]
    rewrite(model, arrays={"large": {**arrays["large"], **change}})
    with pytest.raises(ArtifactError, match="array large has a file, dtype or shape that do not fit"):
        read_model(model)


@pytest.mark.parametrize("arrays", [None, [], 7, {"large": None}, {"large": []}])
def test_arrays_that_are_no_descriptions_are_refused(model: Path, arrays: object) -> None:
    rewrite(model, arrays=arrays)
    with pytest.raises(ArtifactError, match=r"no mapping|do not fit"):
        read_model(model)


def test_another_file_of_the_model_is_no_array(model: Path) -> None:
    body = json.loads((model / MANIFEST).read_text())
    records = next(name for name in body["files"] if name.startswith("records"))
    shape = [body["files"][records]["size"]]
    rewrite(model, arrays={"large": {"file": records, "dtype": "|u1", "shape": shape}})
    with pytest.raises(ArtifactError, match="do not fit"):
        read_model(model)


def test_mapped_arrays_count_as_no_memory(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = max(path.stat().st_size for path in model.iterdir() if path != array_file(model))
    assert others < 1100
    monkeypatch.setattr(memory_limit, "machine_memory", lambda: 1100.0)
    np.testing.assert_array_equal(read_model(model).tensors["large"], LARGE)
