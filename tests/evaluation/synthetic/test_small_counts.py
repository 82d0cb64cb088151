"""Counts of one to nine real rows are not shown to readers outside, nor what gives them away."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from nearward.evaluation.privacy_attacks.residual_risk import residual_risk
from nearward.evaluation.stats.confidence import wilson
from nearward.evaluation.synthetic.small_counts import describe_count, suppress_json_counts, suppress_share


@pytest.mark.parametrize("rows", [1, 5, 9])
def test_few_rows_and_all_but_few_are_one_range(rows: int) -> None:
    one = suppress_share(asdict(wilson(1, 700)))
    assert suppress_share(asdict(wilson(rows, 700))) == one
    assert one["value"] is None
    assert one["low"] == 0
    assert one["high"] > 9 / 700
    other = suppress_share(asdict(wilson(700 - rows, 700)))
    assert (other["low"], other["high"]) == (pytest.approx(1 - one["high"]), 1.0)


@pytest.mark.parametrize("rows", [0, 10, 350, 690, 700])
def test_other_shares_stay(rows: int) -> None:
    share = asdict(wilson(rows, 700))
    assert suppress_share(share) == share


def test_what_is_computed_from_a_suppressed_share_is_rounded() -> None:
    attack, control = wilson(12, 500), wilson(3, 500)
    shown = suppress_json_counts({"attack": asdict(attack), "control": asdict(control), "risk": asdict(residual_risk(attack, control))})
    assert shown["control"]["value"] is None
    assert shown["attack"] == asdict(attack)
    risk = shown["risk"]["value"]
    assert risk == round(risk, 2)
    possible = [k for k in range(1, 10) if round(residual_risk(attack, wilson(k, 500)).value, 2) == risk]
    assert len(possible) > 1


def test_a_difference_to_a_suppressed_share_in_a_table_beside_it_is_rounded() -> None:
    shares = [{"table": "train", "share": asdict(wilson(4, 900))}]
    body = {"shift": {"value": 0.01234, "low": 0.0, "high": 0.0321, "n": 900}, "shares": shares}
    assert suppress_json_counts(body)["shift"]["value"] == 0.01


def test_counts_of_rows_and_events_under_ten_are_left_out() -> None:
    assert suppress_json_counts({"train rows": 7, "events": 12, "seed": 3}) == {"train rows": None, "events": 12, "seed": 3}
    assert [describe_count(count) for count in (0, 1, 9, 10)] == ["0", "fewer than 10", "fewer than 10", "10"]
