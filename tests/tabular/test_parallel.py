"""Tasks in parallel: in order, one thread each, and the libraries' threads restored whatever happens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from nearward.tabular.parallel import cpu_count, parallel_map, single_threaded


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
