"""A job that is killed forty times and resumed writes the same bytes as one that was not killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

TABLES, SHARDS = 8, 5  # forty shards

# Runs as `python -c JOB out`: scores by arithmetic, so that a life takes a moment. DEADLY names the call of the operating system that
# kills the process: half a write is written first.
JOB = """
import os, signal, sys
from pathlib import Path
import polars as pl
from nearward.batch.job_store import open_job_store
from nearward.batch.records import JobOptions
from nearward.batch.sharding import find_tables
from nearward.batch.scoring import Scores, score_shard

place, deadly, calls = Path(sys.argv[1]), int(os.environ.get("DEADLY", "0")), 0

def mined(name):
    real = getattr(os, name)
    def call(*args, **more):
        global calls
        calls += 1
        if calls == deadly:
            if name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        out = real(*args, **more)
        return out
    setattr(os, name, call)

for name in ("open", "write", "fsync", "replace", "link", "close"):
    mined(name)

class Scorer:
    digest = "m"
    def score(self, frame):
        risk = frame.get_column("x") / 1000
        return Scores(pl.DataFrame({name: risk for name in ("risk", "low", "high", "n_similar", "novelty", "vote")}), {}, {})

store = open_job_store(place / "out", JobOptions("m", "plain", 0.5, ("x",), ("x",), None), 10)
store.clean_up()
store.add_tables(find_tables([place / "in"]))
for shard in store.shards():
    if not store.is_done(shard):
        store.claim(shard)
        score_shard(store, shard, Scorer())
        store.release(shard)
store.clean_up()
print("calls", calls)
"""


def life(place: Path, deadly: int = 0, seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run the job once; killed at its n-th call, or after some seconds."""
    surroundings = {**os.environ, "DEADLY": str(deadly), "POLARS_MAX_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", JOB, str(place)], env=surroundings, text=True, **pipes) as process:
        if seconds is not None:
            time.sleep(seconds)
            process.kill()
        out, err = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), err
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def archive(place: Path) -> None:
    (place / "in").mkdir(parents=True)
    for i in range(TABLES):
        pl.DataFrame({"x": np.arange(10 * SHARDS) + 100.0 * i}).write_parquet(place / "in" / f"{i}.parquet")


def outputs(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((place / "out").glob("*.parquet"))}


@pytest.mark.slow
def test_a_kill_at_any_call_changes_nothing(tmp_path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for place in (whole, killed):
        archive(place)
    done = life(whole)
    assert done.returncode == 0
    calls = int(done.stdout.split()[-1])
    assert len(outputs(whole)) == TABLES * SHARDS
    assert calls > 10 * TABLES * SHARDS
    # at each of the first calls, soon after the job has begun, so that forty shards last for all lives; and at random times
    rng, kills = np.random.default_rng(0), 0
    deaths: list[int | float] = [*range(1, 40), *rng.uniform(0.05, 0.6, 5)]
    for at in rng.permutation(np.array(deaths, dtype=object)):
        done = life(killed, deadly=at) if isinstance(at, int) else life(killed, seconds=at)
        kills += done.returncode != 0
        if done.returncode == 0:
            for path in sorted((killed / "out").glob("*.parquet"))[:: int(rng.integers(1, 4))]:
                path.unlink()  # there is work again
    assert kills >= 36
    assert life(killed).returncode == 0
    assert outputs(killed) == outputs(whole)
    assert not list((killed / "out").rglob("*.part"))
    assert not list((killed / "out").rglob("*.claim"))
    rows = pl.concat([pl.read_parquet(path) for path in sorted((killed / "out").glob("*.parquet"))]).select("file", "row")
    assert rows.height == TABLES * SHARDS * 10
    assert rows.is_unique().all()


def test_a_kill_in_the_middle_of_a_write_leaves_the_old_output_whole(tmp_path) -> None:
    archive(tmp_path)
    assert life(tmp_path, deadly=60).returncode == -signal.SIGKILL
    for path in (tmp_path / "out").glob("part-*.parquet"):
        assert pl.read_parquet(path).height == 10  # whatever bears its final name is whole
    assert life(tmp_path).returncode == 0
    assert len(outputs(tmp_path)) == TABLES * SHARDS
