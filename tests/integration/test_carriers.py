"""One table, one meaning, whatever carries it: the same risks and ids from Parquet, CSV, Polars, pandas and Arrow."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import nearward as nw
from nearward.retrieval.encoders.aware import EncoderConfig


class _ArrowTable:
    """A table that has the Arrow stream protocol and nothing else."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def _to_pandas(frame: pl.DataFrame) -> Any:
    return pytest.importorskip("pandas").DataFrame(frame.to_dict(as_series=False))


@pytest.fixture(scope="module")
def coded(clinic: Any) -> tuple[pl.DataFrame, Any]:
    """The clinic with columns of codes that CSV readers like to take for numbers, and text ids with leading zeros."""
    frame, died, _ = clinic
    rng = np.random.default_rng(1)
    severe = rng.random(frame.height) < 0.3 + 0.4 * died

    def codes(names: list[str]) -> pl.Series:
        return pl.Series([names[2 * int(s) + int(i)] for s, i in zip(severe, rng.integers(0, 2, frame.height), strict=True)])

    coded = frame.with_columns(
        id=pl.Series([f"{i:06d}" for i in range(180, 180 + frame.height)]),
        ward=codes(["01", "02", "1", "2"]),
        icd=codes(["250.0", "401.9", "250.00", "38.10"]),
        vent=codes(["FALSE", "FALSE", "TRUE", "FALSE"]),
        batch=codes(["1E5", "2E5", "100000", "3E5"]),
        region=codes(["EU", "US", "NA", "AF"]),
    )
    return coded, died


@pytest.fixture(scope="module")
def place(coded: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("carriers")
    frame, died = coded
    schema = nw.Schema.infer(frame).with_roles(id="id")
    model = nw.RiskClassifier(random_state=0, encoder=EncoderConfig(steps=20), backbone=None, schema=schema).fit(frame[:500], died[:500])
    model.save(folder / "model")
    new = frame[500:560]
    new.write_parquet(folder / "new.parquet")
    new.write_csv(folder / "new.csv")
    new.write_ipc(folder / "new.arrow")
    _to_pandas(new).to_csv(folder / "pandas.csv.gz", index=False)
    (folder / "parts").mkdir()
    new[:20].write_parquet(folder / "parts" / "a.parquet")
    new[20:].write_parquet(folder / "parts" / "b.parquet")
    return folder


@pytest.mark.parametrize("carrier", ["new.csv", "new.arrow", "pandas.csv.gz", "parts"])
def test_risks_and_ids_are_those_of_parquet(nearward: Any, place: Path, carrier: str) -> None:
    nearward("score", "model", "new.parquet", "--out", "expected.parquet", cwd=place)
    done = nearward("score", "model", carrier, "--out", "risk.parquet", cwd=place) if carrier != "parts" else None
    if done is None:
        nearward("score", "model", "parts/*.parquet", "--out", "risk.parquet", cwd=place)
    else:
        assert "note" not in done.stderr
    expected, scores = (pl.read_parquet(place / name) for name in ("expected.parquet", "risk.parquet"))
    assert scores.equals(expected)
    assert scores["id"][0] == "000680"


@pytest.mark.parametrize("carry", [_to_pandas, _ArrowTable, pl.DataFrame.lazy])
def test_frames_of_other_libraries_give_the_same(place: Path, coded: Any, carry: Any) -> None:
    model, new = nw.load(place / "model"), coded[0][500:560]
    assert model.predict_frame(carry(new)).equals(model.predict_frame(new))


def test_similar_patients_of_a_csv_are_those_of_parquet(nearward: Any, place: Path) -> None:
    row = pl.read_parquet(place / "new.parquet")["id"][3]
    outputs = {nearward("similar", "model", name, "--row", row, cwd=place).stdout for name in ("new.parquet", "new.csv")}
    assert len(outputs) == 1


def test_a_file_named_like_a_pattern_is_scored_itself(nearward: Any, place: Path) -> None:
    frame = pl.read_parquet(place / "new.parquet")
    frame[:10].write_parquet(place / "p[1].parquet")
    frame[10:20].write_parquet(place / "p1.parquet")
    nearward("score", "model", "p[1].parquet", "--out", "risk.parquet", cwd=place)
    assert pl.read_parquet(place / "risk.parquet")["id"].to_list() == frame["id"][:10].to_list()
    (place / "p[1].parquet").unlink()
    assert "no such file" in nearward("score", "model", "p[1].parquet", "--out", "risk.parquet", cwd=place, code=2).stderr


def test_the_commands_keep_codes_and_names_with_commas(nearward: Any, coded: Any, tmp_path: Path) -> None:
    frame, died = coded
    frame = frame.with_columns(died=pl.Series(died)).rename({"lactate": "lactate, arterial", "sofa": "a,b"})
    frame[:300].write_csv(tmp_path / "cohort.csv")
    nearward("schema", "cohort.csv", "--out", "schema.json", cwd=tmp_path)
    kinds = {column["name"]: column["kind"] for column in json.loads((tmp_path / "schema.json").read_text())["columns"]}
    assert {name: kinds[name] for name in ("ward", "batch", "id", "age")} == {
        "ward": "category", "batch": "category", "id": "category", "age": "number",
    }  # fmt: skip
    words = ("--outcome", "died", "--id", "id", "--out", "ranked.csv", "--drop", "lactate, arterial", "--drop", '"a,b",diabetic')
    nearward("screen", "cohort.csv", *words, cwd=tmp_path)
    ranked = pl.read_csv(tmp_path / "ranked.csv", infer_schema=False)
    assert sorted(ranked["id"]) == sorted(frame["id"][:300])
    done = nearward("screen", "cohort.csv", *words[:-1], "a,c", cwd=tmp_path, code=2)
    assert "columns missing from the frame: ['a', 'c']" in done.stderr


def test_the_tables_of_a_card_are_those_of_parquet(coded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``evaluate synth`` gets the same three tables from CSV: codes, booleans, dates, times with a zone, the level NA, marks of missing."""
    from typer.testing import CliRunner

    from nearward.cli.main import app
    from nearward.evaluation.tables.inputs import read_tables

    frame, died = coded
    n = frame.height
    hours = pl.datetime_range(datetime(2019, 1, 1), datetime(2020, 1, 1), "1h", time_zone="UTC", eager=True)
    at = hours[:n].dt.convert_time_zone("Europe/Berlin")
    frame = frame.drop("id").with_columns(
        died=pl.Series(died),
        day=at.dt.date(),
        at=at,
        crp=pl.Series([f"{i % 50 + 0.5}" if i % 9 else "?" for i in range(n)]),
    )
    schema = nw.Schema.infer(frame.drop("day", "at"), missing="usual").with_roles(outcome="died")
    (tmp_path / "schema.json").write_text(schema.to_json())
    tables = []

    def catch(train: pl.DataFrame, holdout: pl.DataFrame, synthetic: pl.DataFrame, **_: Any) -> None:
        tables.append(read_tables(train, holdout, synthetic, "died"))
        raise KeyboardInterrupt

    monkeypatch.setattr("nearward.evaluation.synthetic.card.faith_card", catch)
    for kind in ("csv", "parquet"):
        words = ["evaluate", "synth", "--outcome", "died", "--schema", str(tmp_path / "schema.json"), "--missing", "usual"]
        for name, part in (("train", frame[:300]), ("holdout", frame[300:500]), ("synthetic", frame[500:])):
            path = tmp_path / f"{name}.{kind}"
            part.write_csv(path) if kind == "csv" else part.write_parquet(path)
            words += [f"--{name}", str(path)]
        CliRunner().invoke(app, words)
    from_csv, from_parquet = tables
    for name in ("train", "holdout", "synthetic"):
        assert_frame_equal(getattr(from_csv, name), getattr(from_parquet, name))
    assert from_csv.train["region"].is_in(["NA"]).any()
    assert from_csv.train["crp"].dtype == pl.Float64
