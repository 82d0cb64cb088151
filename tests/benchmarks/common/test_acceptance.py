"""Acceptance checks: what passes a limit, and what fails it."""

from __future__ import annotations

import math

from benchmarks.common.acceptance import AcceptanceChecks


def test_limits_of_both_signs_and_nan() -> None:
    checks = AcceptanceChecks("0" * 64)
    for case, value, sign, limit in (
        ("below", 1.0, "<=", 1.0),
        ("above", 1.1, "<=", 1.0),
        ("enough", 1.0, ">=", 1.0),
        ("no number", math.nan, ">=", 1.0),
    ):
        checks.require("sizes", case, value, sign, limit)
    checks.add_table("sizes", {"row": {"AUROC": 0.5, "note": "text"}})
    assert [one.passed for one in checks.limited] == [True, False, True, False]
    assert checks.report() == ["sizes, above: 1.1, required <= 1", "sizes, no number: nan, required >= 1"]
    assert [(one["case"], one["value"], one["passed"]) for one in checks.records()][-1] == ("row: AUROC", "0.5", None)
