"""Rules that the rarer outcome violates are listed, not enforced, also where the event is the commoner outcome."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.synth.constraints.discovery import discover_rules
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer


def intensive_care(n: int, seed: int) -> pl.DataFrame:
    """Rows whose minimum is below their maximum, except in a tenth of the deaths (3 %)."""
    rng = np.random.default_rng(seed)
    died = rng.random(n) < 0.03
    low = np.round(rng.normal(60, 10, n), 1)
    swapped = died & (rng.random(n) < 0.1)
    high = np.round(low + np.where(swapped, -1, 1) * rng.gamma(4, 5, n) + np.where(swapped, -0.1, 0.1), 1)
    return pl.DataFrame({"low": low, "high": high, "outcome": np.where(died, "died", "survived")})


@pytest.mark.parametrize("event", ["died", "survived"])
def test_a_rule_that_the_rarer_outcome_violates_is_not_enforced(event: str) -> None:
    train, confirmation = intensive_care(8000, 0), intensive_care(2000, 1)
    tokenizer = TableTokenizer.fit(train, "outcome")
    rules = discover_rules(train, confirmation, tokenizer, ("outcome", event), None, 0)
    (order,) = [rule for rule in rules if str(rule) == "low is at most high"]
    assert order.evidence.events == (train["outcome"] == "died").sum()
    assert not order.evidence.enforced
