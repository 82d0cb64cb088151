from __future__ import annotations

import pytest
from threadpoolctl import threadpool_info

from nearward.evaluation.threads import one_thread, side_by_side


def threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] in ("openmp", "blas")}


def test_each_piece_has_one_thread_and_gives_its_own_result():
    before = threads()
    with one_thread():
        assert threads() == {1}
    found = side_by_side({"a": threads, "b": lambda: 2})
    assert found == {"a": {1}, "b": 2}
    assert list(found) == ["a", "b"]
    assert threads() == before


def test_what_goes_wrong_in_a_piece_is_told():
    with pytest.raises(ZeroDivisionError):
        side_by_side({"a": lambda: 1, "b": lambda: 1 // 0})
