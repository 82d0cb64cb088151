"""The model directory: hashes, atomic replacement, refusals, packing."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from nearward.tabular.errors import ArtifactError, InputError, RuleError
from nearward.tabular.persistence import artifact, memory_limit
from nearward.tabular.persistence.artifact import MANIFEST, check_folder, pack, read_manifest, read_model, unpack, write_model

RECORDS = pl.DataFrame({"age": [61.0, None], "(outcome)": [0, 1]})


@pytest.fixture
def model(tmp_path):
    write_model(tmp_path / "m", {"summary": {"rows": 2}}, {"w": np.arange(300.0).reshape(3, 100), "b": np.zeros(0)}, RECORDS)
    return tmp_path / "m"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_is_read_as_written(model):
    about, tensors, records, _ = read_model(model)
    assert about["summary"] == {"rows": 2}
    assert about["contains_records"] is True
    np.testing.assert_array_equal(tensors["w"], np.arange(300.0).reshape(3, 100))
    assert tensors["b"].shape == (0,)
    assert records.equals(RECORDS)


def test_the_folder_is_private(model):
    assert stat.S_IMODE(model.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in model.iterdir()} == {0o600}


def test_saving_twice_gives_equal_bytes(model, tmp_path):
    about, tensors, records, _ = read_model(model)
    about = {key: about[key] for key in about if key not in ("files", "nearward_model", "contains_records")}
    write_model(tmp_path / "again", about, dict(reversed(tensors.items())), records)
    assert files(model) == files(tmp_path / "again")


@pytest.mark.parametrize("which", ["manifest", "tensors", "records"])
def test_two_hundred_flipped_bytes_and_fifty_truncations_are_refused(model, which):
    path = next(path for path in model.iterdir() if path.name.startswith(which))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        spoiled = bytearray(whole)
        spoiled[rng.integers(len(whole))] ^= int(rng.integers(1, 256))
        path.write_bytes(spoiled)
        with pytest.raises(ArtifactError):
            read_model(model)
    for length in rng.integers(0, len(whole), 50):
        path.write_bytes(whole[:length])
        with pytest.raises(ArtifactError):
            read_model(model)
    path.write_bytes(whole)
    read_model(model)


def rewrite(model, **changes):
    """Change keys of a manifest, with a valid digest; None removes a key."""
    body = {**json.loads((model / MANIFEST).read_text()), **changes}
    (model / MANIFEST).write_bytes(artifact._serialize({k: v for k, v in body.items() if k != "sha256" and v is not None}))


@pytest.mark.parametrize("version", ["99", 2.5, -7, 0, True, [2], {}])
def test_a_format_that_is_no_whole_number_is_refused(model, version):
    rewrite(model, nearward_model=version)
    with pytest.raises(ArtifactError, match="no valid format"):
        read_manifest(model)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 200_000,
        b'{"nearward_model": ' + b"[" * 200_000,
        b'{"nearward_model": 2, "x": NaN}',
        b'{"nearward_model": 2, "x": 1e999}',
        b'{"nearward_model": 2, "x": ' + b"[" * 900 + b"]" * 900 + b"}",
        b"\xff\xfe",
        b"",
    ],
)
def test_a_hostile_manifest_is_refused(model, raw):
    (model / MANIFEST).write_bytes(raw)
    with pytest.raises(ArtifactError, match="corrupt"):
        read_manifest(model)


@pytest.mark.parametrize("files", [None, [], 3, {"records-0123456789abcdef.parquet": 3}, {"records-0123456789abcdef.parquet": {"size": 1}}])
def test_a_manifest_without_hashes_is_refused(model, files):
    rewrite(model, files=files)
    with pytest.raises(ArtifactError, match=r"names no files|no hash or size"):
        read_model(model)


@pytest.mark.parametrize("size", [-1, 2.5, "7", True, None])
def test_a_size_that_is_no_number_of_bytes_is_refused(model, size):
    files = json.loads((model / MANIFEST).read_text())["files"]
    rewrite(model, files={name: {**fields, "size": size} for name, fields in files.items()})
    with pytest.raises(ArtifactError, match="no hash or size"):
        read_model(model)


@pytest.mark.parametrize("which", ["manifest", "tensors", "records"])
def test_a_huge_sparse_file_is_refused_before_it_is_read(model, which):
    path = next(path for path in model.iterdir() if path.name.startswith(which))
    os.truncate(path, 40_000_000_000)
    with pytest.raises(ArtifactError, match="larger than"):
        read_model(model)


def test_a_model_larger_than_the_memory_is_refused_before_it_is_read(model, monkeypatch):
    monkeypatch.setattr(memory_limit, "machine_memory", lambda: 50.0)
    with pytest.raises(ArtifactError, match="GB of memory"):
        read_model(model)


def test_records_that_expand_beyond_the_memory_are_refused(tmp_path, monkeypatch):
    write_model(tmp_path / "m", {}, {"w": np.zeros(1)}, pl.DataFrame({"x": np.zeros(3_000_000)}))
    assert sum(path.stat().st_size for path in (tmp_path / "m").iterdir()) < 1_000_000
    monkeypatch.setattr(memory_limit, "machine_memory", lambda: 20e6)
    with pytest.raises(ArtifactError, match=r"0\.0 GB of memory"):
        read_model(tmp_path / "m")


def test_texts_that_expand_beyond_the_memory_are_refused(tmp_path, monkeypatch):
    long = pl.DataFrame({"x": ["a" * 1_000_000] * 50})
    write_model(tmp_path / "m", {}, {"w": np.zeros(1)}, long)
    assert sum(path.stat().st_size for path in (tmp_path / "m").iterdir()) < 1_000_000
    assert read_model(tmp_path / "m").records.equals(long)
    monkeypatch.setattr(memory_limit, "machine_memory", lambda: 20e6)
    with pytest.raises(ArtifactError, match=r"needs 0\.1 GB of memory"):
        read_model(tmp_path / "m")


@pytest.mark.parametrize("values", [[[[1], [2]]], [{"a": 1}], [[{"a": 1}]]])
def test_records_of_structs_and_nested_lists_are_refused(tmp_path, values):
    write_model(tmp_path / "m", {}, {"w": np.zeros(1)}, pl.DataFrame({"x": values}))
    with pytest.raises(ArtifactError, match="structs or nested lists"):
        read_model(tmp_path / "m")


@pytest.mark.parametrize("values", [[["a" * 1_000_000] * 50], [list(range(3_000_000))]])
def test_lists_of_codes_are_read_and_measured(tmp_path, monkeypatch, values):
    records = pl.DataFrame({"codes": values})
    write_model(tmp_path / "m", {}, {"w": np.zeros(1)}, records)
    assert read_model(tmp_path / "m").records.equals(records)
    monkeypatch.setattr(memory_limit, "machine_memory", lambda: 20e6)
    with pytest.raises(ArtifactError, match=r"needs 0\.[01] GB of memory|larger"):
        read_model(tmp_path / "m")


def test_rules_that_cannot_be_used_are_the_models_fault(tmp_path):
    with pytest.raises(ArtifactError, match="holds rules that cannot be used"), artifact.loading(tmp_path):
        raise RuleError("rules: 'rules' must be a list")


def replace_file(model, which, content):
    """Replace a data file by another content under its true hash, as somebody with evil intent would."""
    files = json.loads((model / MANIFEST).read_text())["files"]
    old = next(name for name in files if name.startswith(which))
    digest = hashlib.sha256(content).hexdigest()
    stem, _, suffix = old.partition(".")
    name = f"{stem.split('-')[0]}-{digest[:16]}.{suffix}"
    (model / name).write_bytes(content)
    rewrite(model, files={**{key: value for key, value in files.items() if key != old}, name: {"sha256": [digest], "size": len(content)}})


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"[" * 5000,
        b'{"w": {"dtype": "F32", "shape": [1000000000], "data_offsets": [0, 4]}}',
        b'{"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4000000000]}}',
        b'{"w": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}',
    ],
)
def test_a_hostile_header_of_tensors_is_refused(model, header):
    replace_file(model, "tensors", len(header).to_bytes(8, "little") + header + b"0000")
    with pytest.raises(ArtifactError, match="no model that this nearward can build"):
        read_model(model)
    replace_file(model, "tensors", (2**62).to_bytes(8, "little") + header)
    with pytest.raises(ArtifactError):
        read_model(model)


def test_records_that_are_not_parquet_are_refused(model):
    replace_file(model, "records", b"PAR1 nothing PAR1")
    with pytest.raises(ArtifactError, match="no model that this nearward can build"):
        read_model(model)


@pytest.mark.parametrize(("form", "message"), [(99, "later nearward .* update"), (1, "earlier nearward .* fit and save it again")])
def test_another_format_is_named(model, form, message):
    body = {**json.loads((model / MANIFEST).read_text()), "nearward_model": form}
    (model / MANIFEST).write_bytes(artifact._serialize({k: v for k, v in body.items() if k != "sha256"}))
    with pytest.raises(ArtifactError, match=message):
        read_manifest(model)


@pytest.mark.parametrize("name", ["../secret.parquet", "/etc/passwd", "records-0123456789abcdef.parquet/../x", "model.pkl"])
def test_a_path_that_leaves_the_folder_is_refused(model, name):
    body = json.loads((model / MANIFEST).read_text())
    body["files"][name] = {"sha256": ["0" * 64], "size": 1}
    (model / MANIFEST).write_bytes(artifact._serialize({k: v for k, v in body.items() if k != "sha256"}))
    with pytest.raises(ArtifactError, match="outside its folder"):
        read_model(model)


def test_a_link_is_not_followed(model, tmp_path):
    path = next(path for path in model.iterdir() if path.name.startswith("tensors"))
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="plain file"):
        read_model(model)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no nearward model"):
        read_model(tmp_path)
    (tmp_path / MANIFEST).write_text('{"some": "other"}')
    with pytest.raises(ArtifactError, match="not a nearward model"):
        read_model(tmp_path)


def test_folders_with_other_files_are_not_written_into(tmp_path):
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(InputError, match="not empty"):
        write_model(tmp_path, {}, {"w": np.zeros(1)}, RECORDS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_other_manifests_are_not_overwritten(tmp_path):
    (tmp_path / MANIFEST).write_text('{"name": "my web app"}')
    with pytest.raises(InputError, match="not empty"):
        write_model(tmp_path, {}, {"w": np.zeros(1)}, RECORDS)
    assert (tmp_path / MANIFEST).read_text() == '{"name": "my web app"}'


def test_a_model_with_a_corrupt_manifest_may_be_replaced(model):
    (model / MANIFEST).write_text("{")
    write_model(model, {"summary": {"rows": 3}}, {"w": np.ones(5)}, RECORDS)
    assert read_model(model)[0]["summary"] == {"rows": 3}


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_a_failed_save_leaves_the_previous_model(model, monkeypatch, fails_at):
    before = read_model(model)
    calls = 0
    fsync = os.fsync

    def failing(handle):
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr("os.fsync", failing)
    with pytest.raises(OSError, match="No space"):
        write_model(model, {"summary": {"rows": 3}}, {"w": np.ones(5)}, RECORDS)
    monkeypatch.undo()
    after = read_model(model)
    assert after[0] == before[0]
    np.testing.assert_array_equal(after[1]["w"], before[1]["w"])
    assert not [path for path in model.iterdir() if path.name.endswith(".part")]


def test_a_new_save_replaces_the_old_files(model):
    write_model(model, {"summary": {"rows": 3}}, {"w": np.ones(5)}, RECORDS)
    assert read_model(model)[0]["summary"] == {"rows": 3}
    assert len(list(model.iterdir())) == 3


def test_a_folder_that_cannot_be_written_is_seen_before_the_work(model, tmp_path, monkeypatch):
    check_folder(tmp_path / "new" / "deep")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file: a model is a folder"):
        check_folder(tmp_path / "file")
    with pytest.raises(InputError, match=r"deep cannot be written: .*file is a file"):
        check_folder(tmp_path / "file" / "deep")
    before = files(model)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    for folder in (tmp_path / "new", model):
        with pytest.raises(InputError, match="is not writable"):
            check_folder(folder)
    with pytest.raises(InputError, match="is not writable"):
        write_model(model, {}, {}, RECORDS)
    assert files(model) == before


@dataclass(frozen=True)
class Leaf:
    name: str
    array: np.ndarray


@dataclass(frozen=True)
class Branch:
    leaves: tuple[Leaf, ...]
    extra: dict[str, np.ndarray]
    nothing: None = None


def test_pack_and_unpack_are_inverse():
    branch = Branch((Leaf("a", np.arange(3)), Leaf("b", np.ones((2, 2)))), {"c": np.zeros(1)})
    tensors = {}
    packed = json.loads(json.dumps(pack(branch, tensors)))
    again = unpack(packed, tensors, (Leaf, Branch))
    assert [leaf.name for leaf in again.leaves] == ["a", "b"]
    np.testing.assert_array_equal(again.leaves[1].array, np.ones((2, 2)))
    np.testing.assert_array_equal(again.extra["c"], np.zeros(1))
    assert again.nothing is None


def test_only_known_classes_are_constructed():
    tensors = {}
    packed = pack(Leaf("a", np.arange(3)), tensors)
    with pytest.raises(ArtifactError, match="does not know"):
        unpack(packed, tensors, (Branch,))
    packed["fields"]["cmd"] = "rm"
    with pytest.raises(ArtifactError, match="does not know"):
        unpack(packed, tensors, (Leaf,))


@pytest.mark.parametrize(
    "packed", [{"type": "Leaf"}, {"type": "Leaf", "fields": []}, {"type": [], "fields": {}}, {"array": "x"}, {"array": []}, {"dict": 3}, {}]
)
def test_a_damaged_part_is_refused(packed):
    with pytest.raises(ArtifactError, match="does not know"):
        unpack(packed, {}, (Leaf,))
