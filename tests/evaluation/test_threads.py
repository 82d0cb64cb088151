from __future__ import annotations

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from nearward.evaluation.threads import parallel_map, single_threaded


def threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] in ("openmp", "blas")}


def test_each_piece_has_one_thread_and_gives_its_own_result():
    with single_threaded():
        pass  # all libraries that are to be held are loaded now
    with threadpool_limits(3):
        with single_threaded():
            assert threads() == {1}
        found = parallel_map({"a": threads, "b": lambda: 2})
        assert threads() == {3}
    assert found == {"a": {1}, "b": 2}
    assert list(found) == ["a", "b"]


def test_what_goes_wrong_in_a_piece_is_told():
    with pytest.raises(ZeroDivisionError):
        parallel_map({"a": lambda: 1, "b": lambda: 1 // 0})
