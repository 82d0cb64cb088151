"""Tables of a report's page."""

from __future__ import annotations

import pytest

from nearward.evaluation.risk.html_report import threshold_summary
from nearward.evaluation.risk.results import ThresholdResults
from nearward.evaluation.stats.confidence import Estimate, PointEstimate, Result, Undefined


@pytest.mark.parametrize(
    ("threshold", "text"),
    [
        (PointEstimate(0.042677824267782424, "", 100), "0.042677"),
        (PointEstimate(0.99999999, "", 100), "0.99999"),
        (PointEstimate(0.3, "", 100), "0.3"),
        (PointEstimate(0.00001234567, "", 100), "0.000012345"),
        (PointEstimate(0.0, "", 100), "0"),
        (Estimate(0.12671237, 0.11049, 0.14812, 100), "0.12671 (0.11 to 0.148)"),
        (Undefined("no such threshold"), "none"),
    ],
)
def test_a_threshold_is_rounded_down_so_that_its_own_row_is_alerted(threshold: Result, text: str) -> None:
    shown = threshold_summary([ThresholdResults(threshold, None, {})])["risk from"].item()
    assert shown == text
    if not isinstance(threshold, Undefined):
        assert float(shown.split()[0]) <= threshold.value
