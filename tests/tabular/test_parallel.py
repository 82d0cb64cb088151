"""Tasks in parallel: in order, one thread each, and the libraries' threads restored whatever happens."""

from __future__ import annotations

import builtins
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from nearward.tabular.errors import InputError, MissingPackage
from nearward.tabular.parallel import cpu_count, engine, limit_jobs, parallel_map, share, single_threaded


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with threadpool_limits(3):
        yield
    torch.set_num_threads(before)


def threads(_: int = 0) -> set[int]:
    return {torch.get_num_threads(), *(library["num_threads"] for library in threadpool_info())}


def test_results_come_in_order() -> None:
    assert list(parallel_map(lambda i: i * i, range(20))) == [i * i for i in range(20)]
    assert list(parallel_map(str, [])) == []


@pytest.mark.usefixtures("three_threads")
def test_each_task_has_one_thread() -> None:
    assert list(parallel_map(threads, range(4))) == [{1}] * 4
    assert threads() == {3}


@pytest.mark.usefixtures("three_threads")
def test_a_block_has_one_thread() -> None:
    with single_threaded("faiss", "sklearn.ensemble"):
        assert threads() == {1}
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_an_error_is_raised_and_the_threads_are_restored() -> None:
    with pytest.raises(ZeroDivisionError):
        list(parallel_map(lambda i: 1 // i, range(2)))
    assert threads() == {3}


@pytest.mark.parametrize(("limit", "expected"), [("1", 1), ("0", None), ("two", None), ("100000", None)])
def test_the_environment_only_lowers_the_number_of_cpus(monkeypatch: pytest.MonkeyPatch, limit: str, expected: int | None) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    available = cpu_count()
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert cpu_count() == (expected or available)


@pytest.mark.usefixtures("three_threads")
def test_blocks_that_overlap_in_two_threads_restore_the_threads() -> None:
    first_runs, second_runs = threading.Event(), threading.Event()

    def first() -> None:
        with single_threaded():
            first_runs.set()
            second_runs.wait(30)

    thread = threading.Thread(target=first)
    thread.start()
    first_runs.wait(30)
    with single_threaded():
        second_runs.set()
        thread.join()
        assert threads() == {1}  # the first block's end does not lift the limit of the second
    assert threads() == {3}


@pytest.mark.parametrize(("quota", "expected"), [("150000 100000", 2), ("100000 100000", 1), ("max 100000", 4)])
def test_the_cpu_quota_of_a_container_limits_the_workers(monkeypatch: pytest.MonkeyPatch, quota: str, expected: int) -> None:
    path, opened, exists = "/sys/fs/cgroup/cpu.max", builtins.open, os.path.exists

    def fake_open(file: Any, *args: Any, **options: Any) -> Any:
        return io.StringIO(quota) if file == path else opened(file, *args, **options)

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(builtins, "open", fake_open)
    monkeypatch.setattr(os.path, "exists", lambda file: file == path or exists(file))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert cpu_count() == expected


def test_jobs_are_limited_inside_the_block_and_in_its_tasks() -> None:
    available = cpu_count()
    for n_jobs, expected in ((3, 3), (None, available), (-1, available), (-100, 1)):
        with limit_jobs(n_jobs):
            assert (cpu_count(), list(parallel_map(lambda _: cpu_count(), [0]))) == (expected, [expected])
    assert cpu_count() == available
    for wrong in (0, 1.5, True):
        with pytest.raises(InputError, match="n_jobs must be a whole number other than 0"), limit_jobs(wrong):  # type: ignore[arg-type]
            pass


def test_engines_that_cannot_be_used_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with engine("local"):
        shared = share([1, 2])
        assert list(parallel_map(lambda i: shared.value[i], range(2), remote=True)) == [1, 2]
    wrong = {"engine must be local or ray": {"name": "spark"}, "workers must be a whole number": {"name": "ray", "workers": 0}}
    wrong["for the engine 'ray'"] = {"name": "local", "workers": 2}
    for message, arguments in wrong.items():
        with pytest.raises(InputError, match=message), engine(**arguments):
            pass
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackage, match=r"pip install 'nearward\[distributed\]'"), engine("ray"):
        pass


_FORK = """
import os, sys
import polars as pl
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.errors import ForkedProcess
if sys.argv[1] == "after":
    to_frame(pl.DataFrame({"x": [1]}))
child = os.fork()
if child == 0:
    try:
        to_frame(pl.DataFrame({"x": [1]}))
    except ForkedProcess as error:
        os._exit(3 if "spawn" in str(error) else 4)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(("when", "code"), [("before", 0), ("after", 3)])
def test_a_fork_of_a_process_that_used_the_package_says_so(tmp_path: Path, when: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", _FORK, when], cwd=tmp_path, check=False, capture_output=True, timeout=60)
    assert done.returncode == code, done.stderr
