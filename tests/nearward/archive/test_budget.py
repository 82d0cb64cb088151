from __future__ import annotations

import re

import pytest

from nearward.archive.budget import plan_budget
from nearward.batch.memory import read_size
from nearward.tabular.errors import InputError


def test_blocks_shrink_until_the_limit_is_met_and_what_is_named_as_needed_is_enough() -> None:
    free = plan_budget(1_000_000, 100_000, 30, "default", 2, None)
    tight = plan_budget(1_000_000, 100_000, 30, "default", 2, free.memory - 1e6)
    assert tight.memory < free.memory
    assert tight.block_rows < free.block_rows
    with pytest.raises(InputError, match="max_memory=500MB is too little") as error:
        plan_budget(1_000_000, 100_000, 30, "default", 2, 500e6)
    few = plan_budget(1_000_000, 100_000, 30, "default", 8, tight.memory)
    assert (few.tasks, plan_budget(1_000_000, 100_000, 30, "default", 8, None).tasks) == (2, 5)
    needed = read_size(re.search(r"needs about (\S+)", str(error.value))[1]) + 0.1e9
    assert plan_budget(1_000_000, 100_000, 30, "default", 2, needed).memory <= needed


def test_learning_costs_no_more_beyond_the_teaching_sample() -> None:
    one, ten = (plan_budget(rows, 100_000, 30, "default", 2, None) for rows in (1_000_000, 10_000_000))
    assert one.taught == ten.taught == 100_000
    assert ten.memory - one.memory < 9e6 * 400
    assert plan_budget(5_000, 100_000, 30, "default", 2, None).taught == 5_000
