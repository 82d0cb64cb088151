"""Pieces of work side by side: in order, one thread each, and the threads given back whatever happens."""

from __future__ import annotations

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from nearward.tabular.parallel import parallel_map


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with threadpool_limits(3, "blas"):
        yield
    torch.set_num_threads(before)


def test_results_come_in_order() -> None:
    assert list(parallel_map(lambda i: i * i, 20)) == [i * i for i in range(20)]
    assert list(parallel_map(lambda i: i, 0)) == []


@pytest.mark.usefixtures("three_threads")
def test_each_piece_has_one_thread() -> None:
    def threads(_: int) -> tuple[int, int]:
        return torch.get_num_threads(), max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")

    assert list(parallel_map(threads, 4)) == [(1, 1)] * 4


@pytest.mark.usefixtures("three_threads")
def test_torch_gets_its_threads_back_whatever_happens() -> None:
    def stop(_: int) -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        list(parallel_map(stop, 2))
    assert torch.get_num_threads() == 3
