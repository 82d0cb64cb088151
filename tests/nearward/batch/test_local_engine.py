"""Worker processes that stop, hang or die: the job kills them and goes on."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from nearward.batch import local_engine
from nearward.batch.job_store import open_job_store
from nearward.batch.local_engine import LocalEngine
from nearward.batch.records import JobOptions
from nearward.batch.sharding import Shard

WORKER = """
import json, os, sys, time
for line in sys.stdin:
    if json.loads(line)["rows"] == 9:
        time.sleep(600)
    if json.loads(line)["rows"] == 7:
        sys.exit(3)
    print(json.dumps({"pid": os.getpid(), "peak_memory": 1.0}), flush=True)
"""


@pytest.fixture
def engine(tmp_path, monkeypatch) -> LocalEngine:
    monkeypatch.setattr(local_engine, "_POLL", 0.05)
    monkeypatch.setattr(local_engine, "_MOST_STOPPED", 4)
    store = open_job_store(tmp_path / "out", JobOptions("m", "plain", 0.5, ("x",), ("x",), None), 10)
    engine = LocalEngine(Path("model"), store, workers=1)
    engine._command = [sys.executable, "-c", WORKER]
    return engine


def started(engine: LocalEngine) -> int:
    """Let the worker answer once, and return its process id."""
    engine.submit(Shard(0, 0, 0, 1))
    return engine.wait()[0].reply.pid


def test_a_worker_that_is_stopped_is_killed_and_its_shard_returned(engine) -> None:
    pid, shard = started(engine), Shard(0, 1, 0, 9)
    engine.submit(shard)
    os.kill(pid, signal.SIGSTOP)
    (outcome,) = engine.wait()
    assert (outcome.shard, outcome.reply) == (shard, None)
    assert "SIGSTOP" in outcome.cause
    assert started(engine) != pid  # another worker is at work
    engine.close()


def test_a_worker_that_goes_on_in_time_is_not_killed(engine, monkeypatch) -> None:
    monkeypatch.setattr(local_engine, "_MOST_STOPPED", 1000)
    pid = started(engine)
    os.kill(pid, signal.SIGSTOP)
    engine.submit(Shard(0, 1, 0, 1))
    until = time.monotonic() + 30
    while not engine._stopped[pid] and time.monotonic() < until:  # the signal takes effect a moment later
        engine._look([engine._busy[pid][0]])
    assert engine._stopped[pid] == 1
    os.kill(pid, signal.SIGCONT)
    assert engine.wait()[0].reply.pid == pid
    engine.close()


def test_a_job_ends_although_an_idle_worker_is_stopped(engine) -> None:
    os.kill(started(engine), signal.SIGSTOP)
    begun = time.monotonic()
    engine.close()
    assert time.monotonic() - begun < 30


def test_a_worker_that_hangs_is_killed_at_the_limit(engine) -> None:
    pid, shard = started(engine), Shard(0, 1, 0, 9)
    engine._limit = 0.3
    engine.submit(shard)
    (outcome,) = engine.wait()
    assert (outcome.shard, outcome.reply) == (shard, None)
    assert outcome.cause == "it took longer than the limit of 0.005 minutes, and was killed"
    engine._limit = 60.0
    assert started(engine) != pid
    engine.close()


def test_a_limit_counts_each_shard_anew(engine) -> None:
    engine._limit = 60.0
    pid = started(engine)
    engine._seconds[pid] = 59.9
    assert started(engine) == pid
    assert engine._seconds[pid] < 59
    engine.close()


def test_a_job_that_ends_does_not_wait_for_a_worker_that_hangs(engine) -> None:
    started(engine)
    engine._limit = 0.3
    engine.submit(Shard(0, 1, 0, 9))
    engine.close()


def test_without_a_limit_a_job_says_that_it_waits(engine, monkeypatch) -> None:
    monkeypatch.setattr(local_engine, "_SAY_AFTER", 0.2)
    started(engine)
    engine.submit(Shard(0, 1, 0, 9))
    (worker, _), *_ = engine._busy.values()

    def wait_a_second() -> None:
        for _ in range(20):
            time.sleep(0.05)
            engine._look([worker])

    with pytest.warns(RuntimeWarning, match="--shard-minutes") as warned:
        wait_a_second()
    assert len(warned) == 1
    worker.kill()
    engine.close()


def test_a_worker_that_ends_while_it_is_idle_is_replaced(engine) -> None:
    pid = started(engine)
    engine._idle[0].kill()
    engine._idle[0].wait()
    outcomes = []
    for _ in range(3):
        engine.submit(Shard(0, 0, 0, 1))
        outcomes += engine.wait()
        if outcomes[-1].reply is not None:
            break
    assert outcomes[-1].reply.pid != pid
    engine.close()


def test_a_worker_that_dies_says_how(engine) -> None:
    engine.submit(Shard(0, 0, 0, 7))
    (outcome,) = engine.wait()
    assert outcome.reply is None
    assert outcome.cause == "it ended with code 3"
    engine.close()
