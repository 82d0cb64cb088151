"""scikit-learn's own checks of an estimator, all of them; the exceptions are explained."""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from nearward.risk import RiskClassifier

_TOO_FEW = "the check fits on fewer than 10 events, which are refused by design"


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [RiskClassifier()],
    expected_failed_checks=lambda _: {"check_classifier_data_not_an_array": _TOO_FEW, "check_fit2d_1feature": _TOO_FEW},
)
def test_estimator(estimator, check):
    check(estimator)


def test_constructor_stays_small():
    assert len(RiskClassifier().get_params()) <= 12
