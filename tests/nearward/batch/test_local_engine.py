"""Worker processes that stop without an end: the job kills them and goes on."""

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
        time.sleep(60)
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
        engine._kill_if_stopped(engine._busy[pid][0])
    assert engine._stopped[pid] == 1
    os.kill(pid, signal.SIGCONT)
    assert engine.wait()[0].reply.pid == pid
    engine.close()


def test_a_job_ends_although_an_idle_worker_is_stopped(engine) -> None:
    os.kill(started(engine), signal.SIGSTOP)
    begun = time.monotonic()
    engine.close()
    assert time.monotonic() - begun < 30
