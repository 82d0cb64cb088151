from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

import nearward as nw
from nearward.adaptation.stored_patients import ID, PATIENT
from nearward.archive import budget
from nearward.archive import fit as fit_module
from nearward.archive.work_folder import WorkFolder
from nearward.risk_model import binary, effort, multiclass
from nearward.tabular.errors import DataWarning, InputError

ROLES = {"outcome": "died", "group": "patient", "id": "visit"}
BLOCK_ROWS = 64


class Killed(BaseException):
    """Ends a fit where a kill would."""


@pytest.fixture(scope="module", autouse=True)
def _small_limits() -> Iterator[None]:
    """Three hundred rows teach, and blocks have 64 rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(effort.EFFORTS, "fast", effort.Effort(folds=2, steps=15, teaching_rows=300))
        patch.setattr(budget, "MOST_BLOCK_ROWS", BLOCK_ROWS)
        yield


@pytest.fixture(scope="module")
def table(clinic) -> pl.DataFrame:
    frame, died, patient = clinic
    return frame.with_columns(visit=pl.int_range(700) + 5000, patient=pl.Series(patient), died=pl.Series(died))


@pytest.fixture(scope="module")
def folder(table: pl.DataFrame, tmp_path_factory) -> Path:
    """The clinic in three files; patients have visits in several."""
    path = tmp_path_factory.mktemp("archive")
    for i, (begin, end) in enumerate(((0, 250), (250, 420), (420, 700))):
        table[begin:end].write_parquet(path / f"{i}.parquet")
    return path


def settings(**more) -> nw.RiskClassifier:
    return nw.RiskClassifier(effort="fast", backbone=None, random_state=3, **more)


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory) -> Path:
    """The model of an uninterrupted fit."""
    out = tmp_path_factory.mktemp("whole") / "model"
    nw.fit_archive(folder, out, **ROLES, model=settings())
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_model_is_that_of_the_table_in_memory(whole: Path, table: pl.DataFrame) -> None:
    model = nw.load(whole)
    schema = nw.Schema.infer(table, groups=table["patient"]).with_roles(**ROLES)
    expected = settings(schema=schema).fit(table, table["died"])
    assert model.schema_ == expected.schema_
    assert model.summary_ == expected.summary_
    assert model.summary_.taught < 400 < model.summary_.rows == 700
    assert model.fitted_.records.equals(expected.fitted_.records)
    assert (model.fitted_.patient_ids == expected.fitted_.patient_ids).all()
    assert model.predict_frame(table[:40]).equals(expected.predict_frame(table[:40]))
    assert model.similar(table[:1], k=5).equals(expected.similar(table[:1], k=5))
    assert set(model.fitted_.records[ID]) == set(table["visit"].cast(pl.String))
    assert model.fitted_.records[PATIENT].n_unique() == table["patient"].n_unique()


@pytest.mark.parametrize("parts", [4, 7])
def test_a_fit_that_was_killed_goes_on_and_gives_the_same_model(
    folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    done, save_part = [], WorkFolder.save_part

    def deadly(self: WorkFolder, name: str, suffix: str, write: Callable[[Path], object]) -> Path:
        if len(done) == parts:
            raise Killed
        done.append(name)
        return save_part(self, name, suffix, write)

    out = tmp_path / "model"
    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "save_part", deadly)
        with pytest.raises(Killed):
            nw.fit_archive(folder, out, **ROLES, model=settings())
    assert not out.exists()
    words: list[str] = []
    again, fitted = [], binary.fit_base_learners
    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "save_part", lambda self, name, *more: again.append(name) or save_part(self, name, *more))
        patch.setattr(binary, "fit_base_learners", lambda *more: words.append("learns") or fitted(*more))
        nw.fit_archive(folder, out, **ROLES, model=settings(verbose=words.append))
    assert any("goes on with the unfinished fit" in word for word in words)
    assert ("learns" in words) == ("learners" not in done)
    assert set(again).isdisjoint(done[:-1])  # a block is its records and its vectors: of the last one a half may be there
    assert contents(out) == contents(whole)
    assert not (tmp_path / "model.partial").exists()


def test_files_that_changed_begin_anew(folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "archive"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    out, words = tmp_path / "model", []

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "fit_risk", killed)
        with pytest.raises(Killed):
            nw.fit_archive(copy, out, **ROLES, model=settings())
    pl.read_parquet(copy / "0.parquet").with_columns(pl.col("age") + 1).write_parquet(copy / "0.parquet")
    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "fit_risk", killed)
        with pytest.raises(Killed):
            nw.fit_archive(copy, out, **ROLES, model=settings(verbose=words.append))
    assert any("begins anew" in word for word in words)


@pytest.mark.parametrize("step", ["learners", "model"])
def test_a_disk_that_fills_leaves_the_old_model_and_what_is_finished(
    folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """No file may grow beyond 2,000 bytes from some step on: a write fails in its middle."""
    resource = pytest.importorskip("resource")
    out = tmp_path / "model"
    out.mkdir()
    for path in whole.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    limits, save_part, save_records = resource.getrlimit(resource.RLIMIT_FSIZE), WorkFolder.save_part, fit_module.save_records

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))

    def save(self: WorkFolder, name: str, *more: Any) -> Path:
        if name == step:
            fill()
        return save_part(self, name, *more)

    def write_model(*arguments: Any) -> None:
        if step == "model":
            fill()
        save_records(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "save_part", save)
        patch.setattr(fit_module, "save_records", write_model)
        try:
            with pytest.raises(OSError, match="File too large"):
                nw.fit_archive(folder, out, **ROLES, model=settings())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(out) == contents(whole)
    assert any((tmp_path / "model.partial").glob("part-sample-*"))
    assert any((tmp_path / "model.partial").glob("part-learners-*")) == (step == "model")
    if step == "model":  # all parts are finished: there is space again, and the model is written
        nw.fit_archive(folder, out, **ROLES, model=settings())
        assert contents(out) == contents(whole)


def test_a_killed_fit_of_several_classes_goes_on(table: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    level = pl.when(pl.col("died") == 1).then(pl.lit("died")).when(pl.col("age") > 65).then(pl.lit("ill")).otherwise(pl.lit("well"))
    table.with_columns(died=level).write_parquet(tmp_path / "rows.parquet")
    fitted, learns, save_part = multiclass.fit_base_learners, [], WorkFolder.save_part
    monkeypatch.setattr(multiclass, "fit_base_learners", lambda *more: learns.append(more) or fitted(*more))
    nw.fit_archive(tmp_path / "rows.parquet", tmp_path / "whole", **ROLES, model=settings())
    assert len(learns) == 3

    def deadly(self: WorkFolder, name: str, *more: Any) -> Path:
        if name == "class-2-learners":
            raise Killed
        return save_part(self, name, *more)

    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "save_part", deadly)
        with pytest.raises(Killed):
            nw.fit_archive(tmp_path / "rows.parquet", tmp_path / "model", **ROLES, model=settings())
    learns.clear()
    nw.fit_archive(tmp_path / "rows.parquet", tmp_path / "model", **ROLES, model=settings())
    assert len(learns) == 1  # of the third class
    assert contents(tmp_path / "model") == contents(tmp_path / "whole")


def test_it_tells_beforehand_and_refuses_a_limit_that_it_cannot_meet(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[str] = []

    def stop(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(fit_module, "read_through", stop)
    monkeypatch.setattr(fit_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(Killed), pytest.warns(DataWarning, match="0MB are free on the disk"):
        nw.fit_archive(folder, tmp_path / "model", **ROLES, model=settings(verbose=words.append))
    assert any("700 rows in 3 files" in word and "indexes all" in word and "of memory" in word for word in words)
    with pytest.raises(InputError, match=r"max_memory=300MB is too little: this fit needs about \d"):
        nw.fit_archive(folder, tmp_path / "other", **ROLES, model=settings(), max_memory="300MB")


def test_below_the_limit_all_rows_teach(folder: Path, table: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(effort.EFFORTS, "fast", effort.Effort(folds=2, steps=15, teaching_rows=5000))
    source = pl.scan_parquet(folder / "*.parquet").filter(pl.col("ward") == "surgical").select(pl.exclude("sofa"))
    frame = table.filter(pl.col("ward") == "surgical").drop("visit", "sofa")
    schema = nw.Schema.infer(frame, groups=frame["patient"]).with_roles(outcome="died", group="patient")
    expected = settings(schema=schema).fit(frame, frame["died"])
    model = nw.fit_archive(source, tmp_path / "model", outcome="died", drop=["visit"], model=settings(schema=schema))
    assert model.summary_.patients == frame["patient"].n_unique()
    assert model.summary_ == expected.summary_
    assert model.predict_frame(frame[:20]).equals(expected.predict_frame(frame[:20]))


def test_the_command_takes_several_files_and_says_what_it_learned_from(folder: Path, whole: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from nearward.cli.main import app

    options = ["--outcome", "died", "--group", "patient", "--id", "visit", "--effort", "fast", "--backbone", "none"]
    out = tmp_path / "model"
    files = [str(path) for path in sorted(folder.iterdir(), reverse=True)]
    result = CliRunner().invoke(app, ["fit", *files, *options, "--seed", "3", "--out", str(out), "--json", str(tmp_path / "fit.json")])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "fit.json").read_text())["fit"]["taught"] < 400
    assert nw.load(out).summary_ == nw.load(whole).summary_
    tight = CliRunner().invoke(app, ["fit", str(folder), *options, "--max-memory", "100MB", "--out", str(tmp_path / "no")])
    assert "max_memory=100MB is too little" in str(tight.exception)
    mixed = CliRunner().invoke(app, ["fit", *files, "-", *options, "--out", str(tmp_path / "no")])
    assert "is one table" in str(mixed.exception)
