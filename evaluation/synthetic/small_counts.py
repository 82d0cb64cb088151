"""The figures of a card for readers outside: no figure is a count of one to nine real rows, or of all but one to nine.

A share of k of n rows with so small a k, or n - k, is shown as a range that is the same for all of them. Figures that are computed from
such a share and others that stay (a residual risk, a ratio, a difference) are shown to hundredths, rounded outwards.
"""

from __future__ import annotations

import math
from typing import Any

from nearward.evaluation.risk.inputs import MIN_COUNT
from nearward.evaluation.stats.confidence import clopper_pearson

_COUNTS = ("rows", "events")  # ends of the keys of counts
_DERIVED = ("risk", "ratio", "shift")  # keys of figures that are computed from shares beside them
_ESTIMATE = {"value", "low", "high", "n"}


def suppress_json_counts(body: Any) -> Any:
    """Return a card's dictionaries, lists, texts and numbers with small counts suppressed.

    Examples
    --------
    >>> suppress_json_counts({"holdout": {"value": 0.003, "low": 0.001, "high": 0.009, "n": 1000}})
    {'holdout': {'value': None, 'low': 0.0, 'high': 0.017, 'n': 1000, 'suppressed': 'fewer than 10 rows'}}
    """
    if isinstance(body, list):
        return [suppress_json_counts(item) for item in body]
    if not isinstance(body, dict):
        return body
    if _is_estimate(body):
        return suppress_share(body)
    shown = {key: _suppress_rows(value) if key.endswith(_COUNTS) else suppress_json_counts(value) for key, value in body.items()}
    if any(_is_suppressed(value) for value in shown.values()):
        shown = {key: _coarse(value) if key in _DERIVED and _is_estimate(value) else value for key, value in shown.items()}
    return shown


def suppress_share(share: dict[str, Any]) -> dict[str, Any]:
    """Return an estimate as a dictionary, as a range where it is a share of one to nine rows, or of all but one to nine."""
    value, n = share["value"], share["n"]
    rows = value * n
    if not 0 <= value <= 1 or abs(rows - round(rows)) > 1e-6:  # no share of rows
        return share
    few, missing = 0 < round(rows) < MIN_COUNT, 0 < n - round(rows) < MIN_COUNT
    if not few and not missing:
        return share
    upper = round(clopper_pearson(min(MIN_COUNT - 1, n), n).high, 3)
    low, high = (0.0, upper) if few else (round(1 - upper, 3), 1.0)
    return {"value": None, "low": low, "high": high, "n": n, "suppressed": f"fewer than {MIN_COUNT} rows"}


def describe_count(count: int) -> str:
    """Return a count in words: itself, or "fewer than 10" of one to nine."""
    return f"fewer than {MIN_COUNT}" if 0 < count < MIN_COUNT else str(count)


def _is_estimate(body: Any) -> bool:
    return isinstance(body, dict) and set(body) == _ESTIMATE and body["value"] is not None


def _is_suppressed(body: Any) -> bool:
    """Whether a figure is suppressed, or one in the rows of a table beside it."""
    if isinstance(body, list):
        return any(isinstance(row, dict) and any(_is_suppressed(value) for value in row.values()) for row in body)
    return isinstance(body, dict) and "suppressed" in body


def _suppress_rows(value: Any) -> Any:
    return None if isinstance(value, int) and not isinstance(value, bool) and 0 < value < MIN_COUNT else suppress_json_counts(value)


def _coarse(estimate: dict[str, Any]) -> dict[str, Any]:
    """Round an estimate to hundredths, its interval outwards."""
    low, high = math.floor(100 * estimate["low"]) / 100, math.ceil(100 * estimate["high"]) / 100
    return {**estimate, "value": round(estimate["value"], 2), "low": low, "high": high}
