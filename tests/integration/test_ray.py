"""Ray: fits and scoring jobs give the results of this process, and what is killed is replaced. One cluster for all tests."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.batch.job import run_job
from nearward.batch.options import ScoringJob
from nearward.batch.ray_engine import RayEngine
from nearward.index_actors import divide_index
from nearward.retrieval.encoders.training import _Training
from nearward.retrieval.neighbors.binary import Retriever
from nearward.tabular.errors import InputError
from nearward.tabular.parallel import cpu_count, engine, parallel_map, share
from nearward.tabular.ray_tasks import RayCluster, RayTasks

ray = pytest.importorskip("ray", reason="needs the extra 'distributed'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Four logical CPUs: two workers, or one worker and the actors of an index of two shards."""
    cluster = RayCluster(None, 4)
    yield cluster
    cluster.close()


def fit(clinic) -> nw.RiskClassifier:
    frame, died, patient = clinic
    model = nw.RiskClassifier(random_state=3, folds=2, encoder=nw.EncoderConfig(steps=20))
    return model.fit(frame[:400], died[:400], groups=patient[:400])


@pytest.fixture(scope="module")
def local(clinic) -> nw.RiskClassifier:
    return fit(clinic)


@pytest.mark.usefixtures("cluster")
def test_results_come_in_order_and_shared_values_are_put_once(monkeypatch: pytest.MonkeyPatch) -> None:
    put = ray.put
    stored: list[Any] = []
    monkeypatch.setattr(ray, "put", lambda value: stored.append(value) or put(value))
    with engine("ray", workers=2):
        shared = share(np.arange(5.0))

        def task(i: int) -> tuple[float, int, int, list[int]]:
            return shared.value[i], os.getpid(), cpu_count(), list(parallel_map(abs, [-i, -1], remote=True))

        results = list(parallel_map(task, range(5), remote=True))
        local = list(parallel_map(lambda _: os.getpid(), range(2)))
    assert [(value, cpus, nested) for value, _, cpus, nested in results] == [(float(i), 1, [i, 1]) for i in range(5)]
    assert os.getpid() not in {pid for _, pid, _, _ in results}
    assert set(local) == {os.getpid()}  # what is not worth it stays here
    assert len(stored) == 2  # the array and the task


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_is_killed_is_replaced_and_errors_are_those_of_the_task(tmp_path: Path, monkeypatch) -> None:
    def dies_once(i: int) -> int:
        if i == 1 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return i * i

    def fails(i: int) -> int:
        raise InputError(f"row {i} cannot be used")

    def full(_: Any) -> None:
        raise ray.exceptions.ObjectStoreFullError

    with engine("ray", workers=1):
        assert list(parallel_map(dies_once, range(3), remote=True)) == [0, 1, 4]
        with pytest.raises(InputError, match=r"^row 0 cannot be used$"):
            list(parallel_map(fails, range(2), remote=True))
        monkeypatch.setattr(ray, "put", full)
        with pytest.raises(InputError, match=r"could not run a task, nor its repetitions \(ObjectStoreFullError\). Out of memory"):
            list(parallel_map(fails, range(2), remote=True))
    assert (tmp_path / "died").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_fit_on_ray_is_the_fit_of_this_process_even_if_a_worker_is_killed(clinic, local, tmp_path, monkeypatch) -> None:
    plain = RayTasks.map
    remote: list[int] = []

    def map_with_a_death(self: RayTasks, task: Any, items: Any) -> Iterator[Any]:
        remote.append(len(items))

        def task_that_dies_once(item: Any) -> Any:
            if isinstance(item, _Training) and item.steps and not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return task(item)

        return plain(self, task_that_dies_once, items)

    monkeypatch.setattr(RayTasks, "map", map_with_a_death)
    with engine("ray", workers=2):
        distributed = fit(clinic)
    assert (tmp_path / "died").exists()  # in the second round of the encoders
    assert len(remote) >= 5  # base learners, metrics, and encoders: begin, rounds, end
    assert np.array_equal(distributed.fitted_.model.out_of_fold, local.fitted_.model.out_of_fold)
    assert distributed.predict_frame(clinic[0]).equals(local.predict_frame(clinic[0]))


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_job_with_its_index_on_actors_gives_the_same_scores_and_replaces_a_dead_actor(clinic, local, tmp_path, monkeypatch) -> None:
    killed: list[Any] = []
    plain = RayEngine.submit

    def submit(self: RayEngine, shard: Any) -> None:
        plain(self, shard)
        if not killed:
            killed.append(self._index[1])
            ray.kill(killed[0], no_restart=False)

    monkeypatch.setattr(RayEngine, "submit", submit)
    local.save(tmp_path / "model")
    clinic[0].write_parquet(tmp_path / "new.parquet")
    job = ScoringJob(tmp_path / "model", (tmp_path / "new.parquet",), tmp_path / "out", workers=1, shard_rows=300, engine="ray")
    with pytest.raises(InputError, match="the Ray cluster has 4 CPUs, too few for a worker of 2 CPUs and 2 actors of the index"):
        run_job(replace(job, workers=2, max_memory=1.2e9, index_actors=True))
    report = run_job(replace(job, index_actors=True))
    assert killed
    assert report.complete
    scores = pl.concat([pl.read_parquet(path) for path in sorted((tmp_path / "out").glob("part-*.parquet"))])
    expected = local.predict_frame(clinic[0])
    for name in ("risk", "low", "high", "novelty", "n_similar", "vote"):
        np.testing.assert_allclose(scores[name], expected[name], atol=1e-6)
    divided: Any = divide_index(local.fitted_, (None, None)).model
    assert type(divided.retriever.without(np.arange(400) < 3)) is Retriever  # the rows that taught are searched by the worker


def test_an_address_without_a_cluster_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"  # nobody listens
        with pytest.raises(InputError, match=f"no Ray cluster answers at address '{address}': start one"), engine("ray", address=address):
            pass
    with pytest.raises(InputError, match="no Ray cluster answers at address 'nowhere'"), engine("ray", address="nowhere"):
        pass


@pytest.mark.usefixtures("cluster")
def test_other_versions_on_a_node_are_named(cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    from nearward.tabular import ray_tasks

    monkeypatch.setattr(ray_tasks.platform, "python_version", lambda: "3.99.1")
    with pytest.raises(InputError, match=r"the Ray node .* has Python 3\.\d+\.\d+ \(here 3\.99\.1\): install the same versions"):
        cluster._require_same_versions()
