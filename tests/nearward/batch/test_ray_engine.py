"""The engine of Ray actors against a stand-in for Ray: actors that hang are killed at the limit, the others' replies are returned."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nearward.batch import ray_engine
from nearward.batch.engine import WorkerReply
from nearward.batch.job_store import open_job_store
from nearward.batch.ray_engine import RayEngine
from nearward.batch.records import JobOptions
from nearward.batch.sharding import Shard


class Actor:
    """Answers at once, except for shards of nine rows; dies of one with seven."""

    def __init__(self) -> None:
        self.score = SimpleNamespace(remote=lambda shard: (id(self), shard))


@pytest.fixture
def killed(monkeypatch) -> list[Any]:
    killed: list[Any] = []

    def wait(replies: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        done = [reply for reply in replies if reply[1].rows != 9]
        return done, [reply for reply in replies if reply not in done]

    def get(reply: tuple[int, Shard]) -> WorkerReply:
        if reply[1].rows == 7:
            raise RuntimeError("an actor's death")
        return WorkerReply(reply[0], 1.0)

    remote = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *_: Actor()))
    ray = SimpleNamespace(
        is_initialized=lambda: True,
        cluster_resources=lambda: {"CPU": 2.0},
        remote=lambda _: remote,
        wait=wait,
        get=get,
        kill=killed.append,
        exceptions=SimpleNamespace(RayActorError=RuntimeError),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(ray_engine, "_POLL", 0.01)
    return killed


def engine(tmp_path: Path, limit: float | None) -> RayEngine:
    store = open_job_store(tmp_path / "out", JobOptions("m", "plain", 0.5, ("x",), ("x",), None), 10)
    return RayEngine(Path("model"), store, 2, shard_seconds=limit)


def test_an_actor_that_hangs_is_killed_at_the_limit(tmp_path, killed) -> None:
    actors, shard = engine(tmp_path, 0.05), Shard(0, 1, 0, 9)
    actors.submit(shard)
    (outcome,) = actors.wait()
    assert (outcome.shard, outcome.reply) == (shard, None)
    assert "longer than the limit" in outcome.cause
    assert len(killed) == 1
    assert actors.free_workers() == 2


def test_replies_of_others_are_returned_meanwhile(tmp_path, killed) -> None:
    actors = engine(tmp_path, None)
    hangs, quick = Shard(0, 1, 0, 9), Shard(0, 2, 0, 3)
    actors.submit(hangs)
    actors.submit(quick)
    (outcome,) = actors.wait()
    assert outcome.shard == quick
    assert outcome.reply is not None
    assert actors.free_workers() == 1
    assert not killed
    actors.close()
    assert len(killed) == 2


def test_an_actor_that_dies_is_reported_and_replaced(tmp_path, killed) -> None:
    actors = engine(tmp_path, None)
    actors.submit(Shard(0, 1, 0, 7))
    (outcome,) = actors.wait()
    assert (outcome.reply, outcome.cause) == (None, "its actor died (RuntimeError)")
    actors.submit(Shard(0, 1, 0, 3))
    assert actors.wait()[0].reply is not None
    assert actors.free_workers() == 2
