"""Actors of an index against a stand-in for Ray: no room for them, and another model on a node, are named."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nearward.index_actors import start_index_actors
from nearward.tabular.errors import ArtifactError, InputError


class RayError(Exception):
    pass


class GetTimeoutError(RayError):
    pass


def start(monkeypatch: pytest.MonkeyPatch, get: Any) -> list[Any]:
    actor = SimpleNamespace(model_hash=SimpleNamespace(remote=lambda: "m"))
    remote = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *_: actor))
    exceptions = SimpleNamespace(GetTimeoutError=GetTimeoutError, RayError=RayError)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(remote=lambda _: remote, get=get, exceptions=exceptions))
    return start_index_actors(Path("model"), "m", 3, 2e9, 1)


def test_an_actor_is_started_for_each_shard(monkeypatch) -> None:
    assert len(start(monkeypatch, lambda hashes, timeout: hashes)) == 3


def test_a_cluster_without_room_is_told_what_is_needed(monkeypatch) -> None:
    def get(*_: Any, **__: Any) -> None:
        raise GetTimeoutError

    with pytest.raises(InputError, match=r"no room for the index: it needs 3 actors of 1 CPUs and 2\.0 GB each"):
        start(monkeypatch, get)


def test_another_model_on_a_node_is_refused(monkeypatch) -> None:
    with pytest.raises(ArtifactError, match="a node of the Ray cluster reads another model under this path"):
        start(monkeypatch, lambda hashes, timeout: [*hashes[:2], "other"])
