"""Scoring jobs of events: shards of labels, resumed; what is counted; drift of codes; errors that say what to do."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from nearward.batch.dry_run import dry_run
from nearward.batch.engine import ShardOutcome
from nearward.batch.job import plan, run_job
from nearward.batch.job_store import JobStore, open_job_store
from nearward.batch.options import ScoringJob, read_options
from nearward.batch.scoring import LoadedModel, score_shard
from nearward.batch.sharding import Shard
from nearward.batch.summary import JobSummary, drift_table, summarize, summary_table, write_summary
from nearward.batch.worker import ShardWorker
from nearward.cli.main import app
from nearward.event_model.code_drift import code_drift_table, event_rows
from nearward.event_model.sources import event_folders, read_sources
from nearward.tabular.errors import InputError


@pytest.fixture(scope="module")
def loaded(ward_model) -> LoadedModel:
    return LoadedModel(ward_model[3])


@pytest.fixture
def place(ward_model, tmp_path) -> Path:
    """Tonight's labels, and a MEDS folder of two files whose rows and subjects are mixed."""
    events, labels, _, _ = ward_model
    (tmp_path / "events" / "data").mkdir(parents=True)
    mixed = events.sample(fraction=1, shuffle=True, seed=0)
    mixed[::2].write_parquet(tmp_path / "events" / "data" / "0.parquet")
    mixed[1::2].write_parquet(tmp_path / "events" / "data" / "1.parquet")
    labels[120:].write_parquet(tmp_path / "tonight.parquet")
    return tmp_path


def begin(place: Path, model: Path, out: str, shard_rows: int = 15, **more) -> JobStore:
    job = ScoringJob(model, (place / "events",), place / out, labels=place / "tonight.parquet", **more)
    options, sources = read_options(job)
    store = open_job_store(job.out, options, shard_rows)
    store.add_tables(sources)
    return store


def run(store: JobStore, loaded: LoadedModel, most: int = 100) -> None:
    for shard in [shard for shard in store.shards() if not store.is_done(shard)][:most]:
        score_shard(store, shard, loaded)


def output(store: JobStore) -> list[bytes]:
    return [store.output(shard).read_bytes() for shard in store.shards()]


def scores(store: JobStore) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(store.output(shard)) for shard in store.shards()])


def summary_of(store: JobStore, model: Path) -> JobSummary:
    counts = {shard: counts for shard in store.shards() if (counts := store.counts(shard)) is not None}
    return summarize(store, counts, model, ())


def test_a_job_that_is_resumed_writes_the_same_bytes(ward_model, loaded, place) -> None:
    events, labels, model, folder = ward_model
    whole = begin(place, folder, "whole")
    run(whole, loaded)
    interrupted = begin(place, folder, "interrupted")
    run(interrupted, loaded, most=1)
    resumed = begin(place, folder, "interrupted")
    assert sum(resumed.is_done(shard) for shard in resumed.shards()) == 1
    run(resumed, loaded)
    assert output(resumed) == output(whole)
    scored = scores(whole)
    assert scored.columns == ["subject_id", "prediction_time", "boolean_value", "predicted_boolean_value", "predicted_boolean_probability"]
    assert scored["boolean_value"].equals(labels["boolean_value"][120:])
    np.testing.assert_allclose(scored["predicted_boolean_probability"], model.predict_frame(events, labels[120:])["risk"], atol=1e-9)
    other = begin(place, folder, "other", shard_rows=7)  # other shards, the same risks
    run(other, loaded)
    np.testing.assert_allclose(scores(other)["predicted_boolean_probability"], scored["predicted_boolean_probability"], atol=1e-9)
    drifts = [[(code.code, code.now, code.psi) for code in summary_of(store, folder).codes] for store in (whole, other)]
    assert drifts[0] == drifts[1]


def test_the_summary_counts_events_and_tells_another_unit(ward_model, loaded, place) -> None:
    events, labels, _, folder = ward_model
    grams = pl.when(pl.col("code") == "Creatinine").then(pl.col("numeric_value") * 1000).otherwise("numeric_value")
    foreign = events.with_columns(
        grams.alias("numeric_value"), pl.when(pl.col("code") == "Heart rate").then(pl.lit("HR")).otherwise("code").alias("code")
    )
    for path in (place / "events" / "data").iterdir():
        path.unlink()
    foreign.write_parquet(place / "events" / "data" / "all.parquet")
    pl.concat([labels[120:], labels[120:121]]).write_parquet(place / "tonight.parquet")
    store = begin(place, folder, "out", shard_rows=100)
    run(store, loaded)
    summary = summary_of(store, folder)
    assert summary.events["labels"] == 41
    assert summary.events["duplicate_labels"] == 1
    assert summary.events["unknown_codes"] >= 12 * 41  # heart rates
    assert [code.code for code in summary.codes if code.slip] == ["Creatinine"]
    assert summary.codes[0].factor == pytest.approx(1000, rel=0.3)
    rates = next(code for code in summary.codes if code.code == "Heart rate")
    assert rates.moved
    assert (rates.training, rates.now) == (1.0, 0.0)
    assert JobSummary.from_json(json.loads(json.dumps(summary.to_json()))) == summary
    assert summary_table(summary).filter(pl.col("what").str.contains("at most one training subject had")).height == 1
    table = drift_table(summary.drift, most=2)
    assert [name.partition(": ")[0] for name in table["column"]] == ["Heart rate", "Creatinine"]
    assert table["verdict"].str.contains(r"^moved, and \d+ more of its code$").all()
    assert code_drift_table(summary.codes[:1])["verdict"].to_list() == ["another unit?"]
    assert code_drift_table([rates])["verdict"].to_list() == ["none now"]
    assert event_rows({}) == []
    write_summary(summary, store)
    watched = CliRunner().invoke(app, ["watch", str(store.out), "--fail-on", "codes"])
    assert watched.exit_code == 4
    assert "Creatinine (another unit?), Heart rate" in " ".join(watched.stdout.split())


def test_events_that_change_are_refused_or_fail_their_shard(ward_model, loaded, place) -> None:
    folder = ward_model[3]
    store = begin(place, folder, "out")
    run(store, loaded, most=1)
    path = place / "events" / "data" / "1.parquet"
    path.write_bytes(path.read_bytes()[:-100])  # cut off
    shard = next(shard for shard in store.shards() if not store.is_done(shard))
    with pytest.raises(InputError, match="has changed since the job was planned"):
        score_shard(store, shard, loaded)
    with pytest.raises(InputError, match="another table of features or events"):
        begin(place, folder, "out")
    damaged = begin(place, folder, "new")
    with pytest.raises(InputError, match="cut off or damaged"):
        score_shard(damaged, damaged.shards()[0], loaded)


def test_the_memory_of_events_is_planned(ward_model, place) -> None:
    job = ScoringJob(ward_model[3], (place / "events",), place / "out", labels=place / "tonight.parquet", workers=1)
    options, _ = read_options(job)
    without = plan(job, dataclasses.replace(options, events=()))
    assert plan(job, options).memory == without.memory + 800e6


def test_a_job_and_its_dry_run_score_events(ward_model, place, monkeypatch) -> None:
    """The whole way with a worker in this process: the job's tables are labels, not events."""

    class InProcessEngine:
        def __init__(self, model: Path, store: JobStore, *_: object) -> None:
            self.worker, self.submitted = ShardWorker(model, store.out, store.job_id), []

        def free_workers(self) -> int:
            return 1 - len(self.submitted)

        def submit(self, shard: Shard) -> None:
            self.submitted.append(shard)

        def wait(self) -> list[ShardOutcome]:
            return [ShardOutcome(self.submitted.pop(), self.worker.score(shard)) for shard in [*self.submitted]]

        def close(self) -> None:
            pass

    for module in ("job", "dry_run"):
        monkeypatch.setattr(f"nearward.batch.{module}.LocalEngine", InProcessEngine)
    job = ScoringJob(ward_model[3], (place / "events",), place / "out", labels=place / "tonight.parquet", workers=1, shard_rows=30)
    expected = dict(dry_run(job).rows)
    assert (expected["rows"], expected["shards"]) == ("40, 0 of them scored already", "2 of up to 30 rows")
    assert expected["memory"].endswith("to score 40 rows")
    assert not job.out.exists()
    report = run_job(job)
    assert (report.complete, report.scored, report.summary.events["labels"]) == (True, 40, 40)
    assert dict(dry_run(job).rows)["rows"] == "40, 40 of them scored already"


def test_a_model_of_events_needs_labels(ward_model, place) -> None:
    with pytest.raises(InputError, match="the model reads events: --labels must name"):
        read_options(ScoringJob(ward_model[3], (place / "events",), place / "out"))


def test_several_sources_are_one_and_must_go_together(ward_model, place) -> None:
    data = place / "events" / "data"
    assert event_folders([place / "events", data / "0.parquet"]) == [data, data / "0.parquet"]
    both = read_sources([data / "0.parquet", data / "1.parquet"], None)
    assert both.frame.collect().height == ward_model[0].height
    pl.read_parquet(data / "1.parquet").with_columns(pl.col("subject_id").cast(pl.String)).write_parquet(data / "2.parquet")
    with pytest.raises(InputError, match="differ in the time zone or in the dtype of subject_id"):
        read_sources([data / "0.parquet", data / "2.parquet"], None)
