"""Scoring jobs: the plan, the job store, resuming, and failures. The model is real; a two-line scorer replaces its predictions."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearward.batch import job as module
from nearward.batch.engine import ShardOutcome
from nearward.batch.job import run_job
from nearward.batch.job_store import JobStore, open_job_store
from nearward.batch.memory import plan_resources, read_size
from nearward.batch.options import ScoringJob, read_options
from nearward.batch.records import ShardCounts
from nearward.batch.scoring import Scores
from nearward.batch.sharding import Shard, find_tables, read_shard, split_into_shards
from nearward.batch.worker import ShardWorker
from nearward.tabular.errors import ArtifactError, FolderTakenOver, InputError

TABLES, ROWS = 4, 50


class ByAge:
    """A scorer whose risk is the age, under the hash of a real model."""

    def __init__(self, model: str) -> None:
        self.digest = model

    def score(self, frame: pl.DataFrame) -> Scores:
        risk = frame.get_column("age").fill_null(0.0).cast(pl.Float64) / 200
        columns = {"risk": risk, "low": risk / 2, "high": risk, "n_similar": pl.int_range(frame.height, eager=True), "novelty": risk}
        return Scores(pl.DataFrame({**columns, "vote": risk}), {}, {})


class InProcessEngine:
    """An engine without processes; ``fault`` returns an outcome in place of scoring, or raises."""

    fault: Callable[[Shard], ShardOutcome | None] = staticmethod(lambda shard: None)

    def __init__(self, model: Path, store: JobStore, workers: int, threads: int, shard_seconds: float | None = None) -> None:
        self.worker, self.submitted = ShardWorker(model, store.out, store.job_id), []

    def free_workers(self) -> int:
        return 1 - len(self.submitted)

    def submit(self, shard: Shard) -> None:
        self.submitted.append(shard)

    def wait(self) -> list[ShardOutcome]:
        shards, self.submitted = self.submitted, []
        return [InProcessEngine.fault(shard) or ShardOutcome(shard, self.worker.score(shard)) for shard in shards]

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def model(fitted, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "m"
    fitted.save(folder)
    return folder


@pytest.fixture
def place(model, clinic, tmp_path, monkeypatch) -> Path:
    """An archive of four tables, and workers that need no libraries."""
    monkeypatch.setattr(module, "LocalEngine", InProcessEngine)
    monkeypatch.setattr(InProcessEngine, "fault", staticmethod(lambda shard: None))
    monkeypatch.setattr(
        "nearward.batch.worker.LoadedModel",
        lambda folder, index: ByAge(read_options(ScoringJob(model, (tmp_path / "in",), tmp_path / "o"))[0].model),
    )
    (tmp_path / "in").mkdir()
    rows = clinic[0][: TABLES * ROWS].with_row_index("visit")
    for i in range(TABLES):
        rows[i * ROWS : (i + 1) * ROWS].write_parquet(tmp_path / "in" / f"t{i}.parquet", row_group_size=17)
    return tmp_path


def scoring_job(model: Path, place: Path, **more) -> ScoringJob:
    return ScoringJob(model, (place / "in",), place / "out", **{"shard_rows": 20, **more})


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*.parquet"))}


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def scores(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("part-*.parquet"))])


# ---- pieces ---------------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 3000), st.integers(1, 500))
def test_shards_cover_every_row_once(rows: int, size: int) -> None:
    shards = split_into_shards(3, rows, size)
    assert [row for shard in shards for row in range(shard.offset, shard.offset + shard.rows)] == list(range(rows))
    assert all(0 < shard.rows <= size for shard in shards)
    assert [shard.name for shard in shards] == sorted({shard.name for shard in shards})


def test_sizes_are_read_and_memory_decides_workers_and_shards(model) -> None:
    assert read_size("1.5 gb") == 1.5e9
    for wrong in ("2 apples", "-1GB", "0GB", ""):
        with pytest.raises(InputError, match="not a size"):
            read_size(wrong)
    free, tight = (plan_resources(model, 30, 4, limit) for limit in (None, 1.9e9))
    assert (free.workers, free.threads) == (4, 1)
    assert tight.workers < 4
    assert tight.workers * tight.threads <= 4
    assert plan_resources(model, 30, 2, 1.2e9).threads == 2  # no room for a second process: the cores go to the first
    assert tight.memory <= 1.9e9
    with pytest.raises(InputError, match="too little"):
        plan_resources(model, 30, 2, 3e8)


def test_mapped_arrays_take_their_pages_and_an_index_unless_actors_have_them(model, tmp_path) -> None:
    large = shutil.copytree(model, tmp_path / "large")
    (large / "array-0.bin").touch()
    os.truncate(large / "array-0.bin", 10**9)
    plain, copies = (plan_resources(folder, 30, 2, None).memory for folder in (model, large))
    divided = plan_resources(large, 30, 2, None, divided=True).memory
    assert copies - plain == pytest.approx(4e9)
    assert divided == pytest.approx(plain)


# ---- a job ------------------------------------------------------------------------------------------------------------------------


def test_every_row_is_scored_once_in_the_plans_order_and_the_model_is_named(model, place) -> None:
    report = run_job(scoring_job(model, place))
    assert report.complete
    assert (report.shards, report.scored) == (12, TABLES * ROWS)
    scored = scores(place / "out")
    assert scored.columns[:2] == ["file", "row"]
    assert scored["file"].to_list() == [f"t{i}.parquet" for i in range(TABLES) for _ in range(ROWS)]
    assert scored["row"].to_list() == list(range(ROWS)) * TABLES
    wanted = pl.concat([pl.read_parquet(place / "in" / f"t{i}.parquet")["age"] for i in range(TABLES)]).fill_null(0.0) / 200
    np.testing.assert_allclose(scored["risk"], wanted)
    part = place / "out" / "part-00000-000000.parquet"
    assert pl.read_parquet_metadata(part)["nearward.model"] == read_options(scoring_job(model, place))[0].model
    assert {stat.S_IMODE(path.stat().st_mode) for path in (place / "out").rglob("*") if path.is_file()} == {0o600}
    summary = json.loads((place / "out" / "summary.json").read_text())
    assert summary["scored"] == TABLES * ROWS
    assert summary["expected_events"] == pytest.approx(float(scored["risk"].sum()))


def test_the_size_of_the_shards_does_not_change_a_score(model, place) -> None:
    run_job(scoring_job(model, place))
    run_job(ScoringJob(model, (place / "in",), place / "other", shard_rows=7))
    columns = ["file", "row", "risk", "low", "high"]
    assert scores(place / "out").select(columns).equals(scores(place / "other").select(columns))


def test_a_job_resumes_without_repeating_shards(model, place, monkeypatch) -> None:
    class Gone(Exception):
        pass

    def gone(shard: Shard) -> None:
        if shard.file == 2:
            raise Gone

    monkeypatch.setattr(InProcessEngine, "fault", staticmethod(gone))
    with pytest.raises(Gone):
        run_job(scoring_job(model, place))
    before = {path.name: path.stat().st_mtime_ns for path in (place / "out").glob("part-*")}
    assert len(before) == 6
    monkeypatch.setattr(InProcessEngine, "fault", staticmethod(lambda shard: None))
    report = run_job(scoring_job(model, place))
    assert report.complete
    assert report.scored == 2 * ROWS
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in (place / "out").glob("part-*")}.items()
    run_job(ScoringJob(model, (place / "in",), place / "whole", shard_rows=20))
    assert content(place / "out") == content(place / "whole")
    assert not list((place / "out" / "ledger").glob("*.claim"))


@pytest.mark.parametrize("harm", ["flipped", "gone", "sidecar gone", "sidecar nonsense"])
def test_done_means_a_sidecar_with_the_hash_of_the_output(model, place, harm) -> None:
    run_job(scoring_job(model, place))
    wanted, part = content(place / "out"), place / "out" / "part-00001-000001.parquet"
    sidecar = place / "out" / "ledger" / "part-00001-000001.json"
    if harm == "flipped":
        part.write_bytes(part.read_bytes()[:-1] + b"?")
    elif harm == "gone":
        part.unlink()
    elif harm == "sidecar gone":
        sidecar.unlink()
    else:
        sidecar.write_text("{")
    report = run_job(scoring_job(model, place))
    assert report.complete
    assert report.scored == 20
    assert content(place / "out") == wanted
    assert json.loads(sidecar.read_text())["sha256"] == hashlib.sha256(part.read_bytes()).hexdigest()


def test_a_truncated_table_is_named_and_all_others_are_scored(model, place) -> None:
    broken = place / "in" / "t1.parquet"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    report = run_job(scoring_job(model, place))
    assert not report.complete
    assert report.scored == 3 * ROWS
    assert [what for what, _ in report.failed] == ["t1.parquet"]
    assert "t1.parquet" not in scores(place / "out")["file"]
    broken.write_bytes(whole)  # repaired: the same command scores it
    assert run_job(scoring_job(model, place)).complete
    assert sorted(set(scores(place / "out")["file"])) == [f"t{i}.parquet" for i in range(TABLES)]


def test_a_table_without_a_column_fails_alone(model, place) -> None:
    pl.read_parquet(place / "in" / "t3.parquet").drop("age").write_parquet(place / "in" / "t3.parquet")
    report = run_job(scoring_job(model, place))
    assert [what for what, _ in report.failed] == ["t3.parquet"]
    assert "age" in report.failed[0][1]


def test_a_dead_worker_is_replaced_and_a_shard_fails_after_two_deaths(model, place, monkeypatch) -> None:
    deaths: list[str] = []

    def dies(shard: Shard) -> ShardOutcome | None:
        once = shard.name == "part-00000-000001" and shard.name not in deaths
        if once or shard.name == "part-00002-000000":
            deaths.append(shard.name)
            return ShardOutcome(shard, None, "killed by signal 9; out of memory?")
        return None

    monkeypatch.setattr(InProcessEngine, "fault", staticmethod(dies))
    report = run_job(scoring_job(model, place))
    assert deaths.count("part-00000-000001") == 1
    assert deaths.count("part-00002-000000") == 2
    assert (report.done, report.shards) == (11, 12)
    assert "died 2 times" in report.failed[0][1]
    assert "part-00002-000000" in report.failed[0][0]


def test_workers_that_all_die_stop_the_job(model, place, monkeypatch) -> None:
    submitted: list[str] = []

    def dies(shard: Shard) -> ShardOutcome:
        submitted.append(shard.name)
        return ShardOutcome(shard, None, "it ended with code 1")

    monkeypatch.setattr(InProcessEngine, "fault", staticmethod(dies))
    report = run_job(scoring_job(model, place))
    assert "workers die" in report.stopped
    assert len(submitted) == 6 < 2 * report.shards
    assert not report.complete
    monkeypatch.setattr(InProcessEngine, "fault", staticmethod(lambda shard: None))
    assert run_job(scoring_job(model, place)).complete


def test_a_full_disk_stops_the_job_and_changes_no_output(model, place, monkeypatch) -> None:
    run_job(scoring_job(model, place))
    wanted = content(place / "out")
    for path in list((place / "out" / "ledger").glob("part-00003-*.json")):
        path.unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nearward.tabular.data.atomic_files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        run_job(scoring_job(model, place))
    monkeypatch.undo()
    assert content(place / "out") == wanted
    assert not list((place / "out").rglob("*.part"))


def test_a_read_only_folder_stops_the_job_and_changes_no_file(model, place, monkeypatch) -> None:
    run_job(scoring_job(model, place))
    wanted = {path: path.read_bytes() for path in (place / "out").rglob("*") if path.is_file()}
    (place / "out" / "ledger" / "part-00003-000000.json").unlink()

    def read_only(path: object, flags: int, *more: object) -> int:
        if flags & os.O_CREAT:
            raise OSError(30, "Read-only file system")
        return really(path, flags, *more)

    really = os.open
    monkeypatch.setattr("nearward.tabular.data.atomic_files.os.open", read_only)
    with pytest.raises(OSError, match="Read-only"):
        run_job(scoring_job(model, place))
    monkeypatch.undo()
    after = {path: path.read_bytes() for path in (place / "out").rglob("*") if path.is_file()}
    assert after == {path: content for path, content in wanted.items() if path.name != "part-00003-000000.json"}


def test_another_model_needs_restart(model, place, fitted) -> None:
    run_job(scoring_job(model, place))
    before = content(place / "out")
    swapped = place / "swapped"
    shutil.copytree(model, swapped)
    manifest = json.loads((swapped / "manifest.json").read_text())
    del manifest["sha256"]
    manifest["note"] = "another"
    from nearward.tabular.persistence.artifact import _serialize

    (swapped / "manifest.json").write_bytes(_serialize(manifest))
    with pytest.raises(InputError, match="another model"):
        run_job(scoring_job(swapped, place))
    assert content(place / "out") == before
    old = JobStore(place / "out").job_id
    with pytest.raises(InputError, match="another --threshold"):
        run_job(scoring_job(model, place, threshold=0.9))
    assert run_job(scoring_job(model, place, threshold=0.9, restart=True)).scored == TABLES * ROWS
    assert JobStore(place / "out").job_id != old


def test_a_job_of_another_version_is_refused(model, place) -> None:
    run_job(scoring_job(model, place))
    path = place / "out" / "ledger" / "job.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "nearward_scores": 1}))
    with pytest.raises(ArtifactError, match="of this version: choose another folder, or --restart"):
        run_job(scoring_job(model, place))
    assert run_job(scoring_job(model, place, restart=True)).scored == TABLES * ROWS


def test_claims_of_another_job_are_not_waited_for(model, place) -> None:
    """Another job has claimed every shard and ended: this one scores them nevertheless."""
    options, sources = read_options(scoring_job(model, place))
    other = open_job_store(place / "out", options, 20)
    other.add_tables(sources)
    assert all(other.claim(shard) for shard in other.shards())
    assert not other.claim(other.shards()[0])
    report = run_job(scoring_job(model, place, shard_rows=33))  # a job that goes on keeps its own size
    assert report.complete
    assert report.shards == 12
    assert scores(place / "out").select("file", "row").is_unique().all()


def test_another_job_may_finish_a_shard_meanwhile(model, place, monkeypatch) -> None:
    run_job(ScoringJob(model, (place / "in",), place / "whole", shard_rows=20))

    def other(shard: Shard) -> None:
        if shard.name == "part-00000-000000":  # while the first is scored, another job commits the second
            store = JobStore(place / "out")
            second = store.shards()[1]
            ShardWorker(model, place / "out", store.job_id).score(second)
            assert store.is_done(second)

    monkeypatch.setattr(InProcessEngine, "fault", staticmethod(other))
    report = run_job(scoring_job(model, place))
    assert report.complete
    assert report.scored == TABLES * ROWS - 20
    assert content(place / "out") == content(place / "whole")


@pytest.mark.parametrize("moment", ["first shard", "last shard"])
@pytest.mark.parametrize("shard_rows", [20, 33])
def test_a_job_whose_folder_is_taken_over_changes_nothing_there(model, place, monkeypatch, moment, shard_rows) -> None:
    after: dict[Path, bytes] = {}

    def restart(shard: Shard) -> None:
        if shard.name == ("part-00000-000000" if moment == "first shard" else "part-00003-000002"):
            monkeypatch.setattr(InProcessEngine, "fault", staticmethod(lambda shard: None))
            assert run_job(scoring_job(model, place, shard_rows=shard_rows, restart=True)).complete
            after.update(files(place / "out"))

    monkeypatch.setattr(InProcessEngine, "fault", staticmethod(restart))
    with pytest.raises(FolderTakenOver, match="deleted nothing"):
        run_job(scoring_job(model, place))
    assert sum(path.name.startswith("part-") and path.suffix == ".parquet" for path in after) == (12 if shard_rows == 20 else 8)
    assert files(place / "out") == after


def test_a_job_that_is_taken_over_while_it_writes_keeps_the_others_files(model, place, monkeypatch) -> None:
    options, sources = read_options(scoring_job(model, place))
    old = open_job_store(place / "out", options, 20)
    old.add_tables(sources)
    shard, fsync = old.shards()[0], os.fsync

    def restarted_meanwhile(descriptor: int) -> None:
        monkeypatch.setattr("nearward.tabular.data.atomic_files.os.fsync", fsync)
        assert run_job(scoring_job(model, place, restart=True)).complete

    monkeypatch.setattr("nearward.tabular.data.atomic_files.os.fsync", restarted_meanwhile)
    with pytest.raises(FolderTakenOver):
        old.save_result(shard, b"late", ShardCounts(20, 0, 0, 0, 0.0, {}, {}))
    before = files(place / "out")
    assert JobStore(place / "out").is_done(shard)
    for write in (
        lambda: old.save_error(shard, "no"),
        lambda: old.release(shard),
        lambda: old.claim(shard),
        lambda: old.add_tables(sources),
        old.clean_up,
    ):
        with pytest.raises(FolderTakenOver):
            write()
    assert ShardWorker(model, place / "out", old.job_id).score(shard).kind == "taken over"
    assert files(place / "out") == before


def test_only_files_that_a_job_wrote_are_deleted(model, place) -> None:
    run_job(scoring_job(model, place))
    names = ("part-list.txt", "part-00000-000099.csv", "part-00000.parquet", "ledger/part-notes.json", "ledger/file-notes.json")
    own = [place / "out" / name for name in names]
    for path in own:
        path.write_text("of the user")
    table = place / "out" / "part-00009-000000.parquet"  # the name of a shard, but no scores
    pl.DataFrame({"x": [1]}).write_parquet(table)
    own.append(table)
    wanted = [path.read_bytes() for path in own]
    for restart in (False, True):
        assert run_job(scoring_job(model, place, restart=restart, shard_rows=33)).complete
        assert [path.read_bytes() for path in own] == wanted
    results = [name for name in content(place / "out") if place / "out" / name not in own]
    assert len(results) == 8  # the twelve outputs of the first job are gone


def test_a_damaged_list_of_tables_deletes_no_scores(model, place) -> None:
    run_job(scoring_job(model, place))
    wanted = content(place / "out")
    (place / "out" / "ledger" / "file-00000.json").write_text("{")
    report = run_job(scoring_job(model, place))
    assert report.complete
    assert report.scored == 0
    assert content(place / "out") == wanted


@pytest.mark.parametrize("name", ["accounts.json", "part-00000-000000.json"])
def test_another_programs_ledger_is_refused(model, place, name) -> None:
    ledger = place / "out" / "ledger"
    ledger.mkdir(parents=True)
    (ledger / name).write_text("{}")
    for restart in (False, True):
        with pytest.raises(InputError, match="holds no scoring job"):
            run_job(scoring_job(model, place, restart=restart))
    (ledger / name).rename(ledger / "job.json")
    with pytest.raises(InputError, match="another program"):
        run_job(scoring_job(model, place, restart=True))
    assert [path.name for path in ledger.iterdir()] == ["job.json"]


@pytest.mark.parametrize(
    "damage", [b"[" * 100_000, b"NaN", b'{"nearward_scores": 2}', b'{"nearward_scores": 2, "job": "a", "shard_rows": 9, "options": {}}']
)
def test_a_damaged_ledger_is_an_error_of_our_own(model, place, damage) -> None:
    run_job(scoring_job(model, place))
    (place / "out" / "ledger" / "job.json").write_bytes(damage)
    with pytest.raises(ArtifactError, match="--restart"):
        run_job(scoring_job(model, place))
    assert run_job(scoring_job(model, place, restart=True)).complete


@pytest.mark.parametrize("damage", [b"[" * 100_000, b"{}", b'{"job": "JOB"}', b'{"job": "JOB", "name": [], "counts": 3, "rows": "x"}'])
def test_a_damaged_record_is_made_again(model, place, damage) -> None:
    run_job(scoring_job(model, place))
    wanted = content(place / "out")
    damage = damage.replace(b"JOB", JobStore(place / "out").job_id.encode())
    for name in ("part-00001-000001.json", "file-00002.json"):
        (place / "out" / "ledger" / name).write_bytes(damage)
    assert run_job(scoring_job(model, place)).complete
    assert content(place / "out") == wanted


@pytest.mark.parametrize("put_back", [False, True])
def test_a_table_that_is_replaced_while_it_is_read_is_not_scored(model, place, monkeypatch, put_back) -> None:
    planned, other = place / "in" / "t0.parquet", place / "other.parquet"
    pl.read_parquet(planned).with_columns(pl.col("age") * 2).write_parquet(other)

    def replaced_meanwhile(path: Path, *arguments: object) -> pl.DataFrame:
        if path != planned:
            return read_shard(path, *arguments)
        planned.rename(place / "planned")
        shutil.copy(other, planned)
        frame = read_shard(path, *arguments)
        if put_back:
            (place / "planned").rename(planned)
        return frame

    monkeypatch.setattr("nearward.batch.scoring.read_shard", replaced_meanwhile)
    report = run_job(scoring_job(model, place))
    assert report.scored == 3 * ROWS
    assert "has changed" in report.failed[0][1]
    assert "t0.parquet" not in scores(place / "out")["file"]


def test_a_name_that_is_not_utf8_is_named_and_all_others_are_scored(model, place) -> None:
    os.rename(place / "in" / "t1.parquet", os.fsencode(place / "in") + b"/0\xff.parquet")
    report = run_job(scoring_job(model, place))
    assert report.scored == 3 * ROWS
    assert [what for what, _ in report.failed] == ["0\\xff.parquet"]
    assert "not UTF-8" in report.failed[0][1]
    with pytest.raises(InputError, match="--out"):
        run_job(ScoringJob(model, (place / "in",), Path(os.fsdecode(os.fsencode(place) + b"/out\xff"))))


def test_a_restarted_job_that_is_stopped_leaves_no_summary_of_the_old_scores(model, place, monkeypatch) -> None:
    run_job(scoring_job(model, place))
    monkeypatch.setattr(InProcessEngine, "fault", staticmethod(lambda shard: ShardOutcome(shard, None, "it ended with code 1")))
    assert run_job(scoring_job(model, place, restart=True)).stopped
    assert not (place / "out" / "summary.json").exists()


def test_a_changed_table_is_refused_once_scored(model, place) -> None:
    run_job(scoring_job(model, place))
    pl.read_parquet(place / "in" / "t0.parquet")[:10].write_parquet(place / "in" / "t0.parquet")
    with pytest.raises(InputError, match="has changed since it was scored"):
        run_job(scoring_job(model, place))


def test_actors_of_an_index_are_for_ray(model, place) -> None:
    with pytest.raises(InputError, match="--address and --index-actors are for --engine ray"):
        run_job(scoring_job(model, place, index_actors=True))


def test_unsafe_folders_and_file_names(model, place) -> None:
    (place / "elsewhere").mkdir()
    shutil.copy(place / "in" / "t0.parquet", place / "elsewhere" / "x.parquet")
    (place / "in" / "link.parquet").symlink_to(place / "elsewhere" / "x.parquet")
    with pytest.raises(InputError, match="leads out"):
        find_tables([place / "in"])
    (place / "in" / "link.parquet").unlink()
    odd = place / "in" / "..%2f..%2fetc; rm -rf.parquet"
    shutil.copy(place / "in" / "t0.parquet", odd)
    before = {path for path in place.rglob("*") if "out" not in path.parts}
    assert run_job(scoring_job(model, place)).complete
    assert {path for path in place.rglob("*") if "out" not in path.relative_to(place).parts} == before
    assert all(path.name.startswith(("part-", "summary", "ledger", "job", "file-")) for path in (place / "out").rglob("*"))
    with pytest.raises(InputError, match="score its own scores"):
        run_job(ScoringJob(model, (place / "in",), place / "in" / "out"))
    with pytest.raises(InputError, match="not empty"):
        run_job(ScoringJob(model, (place / "in",), place / "elsewhere"))
    (place / "nothing").mkdir()
    with pytest.raises(InputError, match="no Parquet files"):
        run_job(ScoringJob(model, (place / "nothing",), place / "out2"))
    with pytest.raises(ArtifactError):
        run_job(ScoringJob(place / "in", (place / "in",), place / "out3"))


def test_a_manifest_with_paths_outside_the_model_is_refused(model, place) -> None:
    hostile = place / "hostile"
    shutil.copytree(model, hostile)
    (place / "secret.parquet").write_bytes(b"secret")
    manifest = json.loads((hostile / "manifest.json").read_text())
    del manifest["sha256"]
    manifest["files"]["../secret.parquet"] = {"sha256": [hashlib.sha256(b"secret").hexdigest()], "size": 6}
    from nearward.tabular.persistence.artifact import _serialize

    (hostile / "manifest.json").write_bytes(_serialize(manifest))
    with pytest.raises(ArtifactError):
        run_job(scoring_job(hostile, place))
    assert not (place / "out").exists()


@pytest.mark.parametrize("seconds", [0.0, -60.0, float("inf"), float("nan")])
def test_a_limit_for_a_shard_is_a_positive_number(model, place, seconds) -> None:
    with pytest.raises(InputError, match="--shard-minutes must be positive"):
        run_job(scoring_job(model, place, shard_seconds=seconds))
    assert not (place / "out").exists()


def test_the_limit_reaches_the_workers(model, place, monkeypatch) -> None:
    given = []

    class Engine(InProcessEngine):
        def __init__(self, *arguments: object) -> None:
            given.append(arguments[4])
            super().__init__(*arguments)

    monkeypatch.setattr(module, "LocalEngine", Engine)
    assert run_job(scoring_job(model, place, shard_seconds=90.0)).complete
    assert given == [90.0]
