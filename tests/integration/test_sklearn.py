"""scikit-learn's own checks of an estimator, all of them; the exceptions are explained."""

from __future__ import annotations

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from nearward.risk_model.classifier import RiskClassifier

_TOO_FEW = "the check fits on fewer than 10 events, which are refused by design"


class TwoClasses(RiskClassifier):
    """Says that it knows two classes, and the checks hand it two: of their own third and fourth there is one row, too few to learn."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [TwoClasses()],
    expected_failed_checks=lambda _: {
        "check_classifier_data_not_an_array": _TOO_FEW,
        "check_fit2d_1feature": _TOO_FEW,
        "check_classifier_not_supporting_multiclass": "it does support several classes",
    },
)
def test_estimator(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        "check_valid_tag_types",
        "check_estimators_fit_returns_self",
        "check_classifiers_classes",
        pytest.param("check_classifiers_train", marks=pytest.mark.slow),
        "check_estimators_unfitted",
    ],
)
def test_estimator_of_several_classes(name):
    """The checks that hand over three classes of enough rows each."""
    assert RiskClassifier().__sklearn_tags__().classifier_tags.multi_class
    getattr(estimator_checks, name)("RiskClassifier", RiskClassifier())


def test_constructor_stays_small():
    assert len(RiskClassifier().get_params()) <= 12
