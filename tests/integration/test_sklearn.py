"""scikit-learn's own checks of an estimator, all of them, with the exceptions explained; and its tools on outcomes that are text."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
import sklearn
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, make_scorer, roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score, cross_validate
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import has_fit_parameter

import nearward as nw
from nearward.risk_model.classifier import RiskClassifier
from nearward.tabular.ensemble.cross_fitting import EncodedClassifier

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
    assert len(RiskClassifier().get_params()) <= 15


# ---- scikit-learn's tools, where the event is not the greater value --------------------------------------------------


def died_or_survived(n=240):
    """Rows (n, 3) whose first column predicts the event, and their outcome: "died" or "survived"."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3))
    return x, np.where(x[:, 0] + 0.5 * rng.normal(size=n) > 0.8, "died", "survived")


def small(**settings):
    return RiskClassifier(positive="died", backbone=None, folds=2, encoder=nw.EncoderConfig(steps=5), **settings)


def test_scorers_are_the_right_way_up():
    x, outcome = died_or_survived()
    scores = cross_validate(small(), x, outcome, cv=2, scoring=["roc_auc", "neg_log_loss", "accuracy"])
    assert scores["test_roc_auc"].min() > 0.85
    assert scores["test_neg_log_loss"].min() > -0.45
    assert scores["test_accuracy"].min() > 0.8
    auprc = make_scorer(average_precision_score, response_method="predict_proba", pos_label="died")
    assert cross_val_score(small(), x, outcome, cv=2, scoring=auprc).min() > 0.6


@pytest.mark.filterwarnings("ignore::nearward.tabular.errors.DataWarning")
def test_a_grid_search_selects_the_better_columns():
    x, outcome = died_or_survived()
    rows = pl.DataFrame(x, schema=["a", "b", "c"])
    schemas = [nw.Schema.infer(rows).with_roles(ignore=[name]) for name in ("a", "b")]
    search = GridSearchCV(small(), {"schema": schemas}, scoring="roc_auc", cv=2, refit=False).fit(rows, outcome)
    assert search.best_params_["schema"] == schemas[1]


@pytest.mark.filterwarnings("ignore::nearward.tabular.errors.DataWarning")
@pytest.mark.parametrize("kind", ["cross_val_predict", VotingClassifier, StackingClassifier])
def test_estimators_that_encode_the_outcome_get_right_probabilities(kind):
    x, outcome = died_or_survived()
    if kind == "cross_val_predict":
        proba = cross_val_predict(small(), x, outcome, cv=2, method="predict_proba")
    else:
        settings = {"voting": "soft"} if kind is VotingClassifier else {"cv": 2}
        model = kind([("nearward", small()), ("linear", LogisticRegression())], **settings).fit(x, outcome)
        assert model.classes_.tolist() == ["died", "survived"]
        proba = model.predict_proba(x)
    assert roc_auc_score(outcome == "died", proba[:, 0]) > 0.85


@pytest.mark.parametrize("kind", ["resampled", "one class", "windows"])
def test_scorers_are_the_right_way_up_for_the_other_classifiers(kind):
    x, outcome = died_or_survived(400)
    risk = 1 / (1 + np.exp(1.5 - 2 * x[:, 0]))
    model, rows = {
        "resampled": (nw.Resampled(sampler=None, learner="boosting", folds=2, positive="died"), x),
        "one class": (nw.OneClass(steps=50, positive="died"), 5 * x * (outcome == "died")[:, None] + x),
        "windows": (nw.WindowGate(["6h", "7d"], positive="died"), pl.DataFrame({"6h": risk, "7d": np.full(400, 0.3)})),
    }[kind]
    model.fit(rows, outcome)
    assert (model.classes_.tolist(), model.event_) == (["died", "survived"], "died")
    scorer = sklearn.metrics.get_scorer("roc_auc")
    assert scorer(model, rows, outcome) > 0.85
    assert (model.predict(rows) == outcome).mean() > 0.75


# ---- fitted state changes at once ------------------------------------------------------------------------------------


def estimators():
    x, outcome = died_or_survived(300)
    rows = pl.DataFrame(x, schema=["a", "b", "c"])
    risks = pl.DataFrame({name: 1 / (1 + np.exp(1.5 - j * x[:, 0])) for j, name in enumerate(["6h", "7d"], 1)})
    series = pl.DataFrame({"pulse": np.repeat(x[:150, :1], 6, axis=1) + np.arange(6)})
    return {
        "RiskClassifier": (RiskClassifier, small().get_params(deep=False), rows, outcome),
        "Resampled": (nw.Resampled, {"sampler": None, "learner": "boosting", "folds": 2, "positive": "died"}, rows, outcome),
        "OneClass": (nw.OneClass, {"steps": 5, "positive": "died"}, rows, outcome),
        "UnknownGate": (nw.UnknownGate, {"steps": 5}, rows, outcome),
        "WindowGate": (nw.WindowGate, {"windows": ("6h", "7d"), "positive": "died"}, risks, outcome),
        "SeriesEncoder": (nw.SeriesEncoder, {"width": 2, "positive": "died"}, series, outcome[:150]),
        "StableColumns": (nw.StableColumns, {}, rows, outcome == "died"),
        "Alerts": (nw.Alerts, {"members": ("6h", "7d"), "positive": "died"}, risks, outcome),
        "CellModel": (nw.CellModel, {"steps": 5}, rows, None),
        "EncodedClassifier": (EncodedClassifier, {"model": LogisticRegression()}, rows, outcome),
    }


@pytest.mark.filterwarnings("ignore::nearward.tabular.errors.DataWarning")
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "SeriesEncoder")) for name in estimators()])
def test_an_interrupted_refit_leaves_the_earlier_model_whole(name):
    """Ctrl-C between two assignments of fitted attributes: before any of them, or after all."""
    kind, settings, rows, outcome = estimators()[name]
    interrupted = []

    def interrupt(self, attribute, value):
        object.__setattr__(self, attribute, value)
        if attribute.startswith("_") or attribute.endswith("_"):
            interrupted.append(attribute)
            raise KeyboardInterrupt

    model = kind(**settings).fit(rows, outcome)
    before = dict(vars(model))
    model.__class__ = type(kind.__name__, (kind,), {"__setattr__": interrupt, "__module__": __name__})
    with contextlib.suppress(KeyboardInterrupt):
        model.fit(rows[:-5], None if outcome is None else outcome[:-5])
    fitted = [attribute for attribute in vars(model) if attribute not in model.get_params(deep=False)]
    changed = [attribute for attribute in fitted if vars(model)[attribute] is not before[attribute]]
    assert not interrupted or changed in ([], fitted)
    assert interrupted or changed


# ---- patients --------------------------------------------------------------------------------------------------------


class Recorder(RiskClassifier):
    """Records the patients that each fit got."""

    seen: ClassVar[list] = []

    def fit(self, X, y, groups=None, unlabelled=None, **fit_params):
        type(self).seen.append(groups)
        return super().fit(X, y, groups, unlabelled, **fit_params)


def test_cross_validation_passes_groups_on_where_routing_is_enabled():
    x, outcome = died_or_survived()
    patient = np.arange(240) // 2
    model = Recorder(**small().get_params())
    with sklearn.config_context(enable_metadata_routing=True):
        cross_validate(model, x, outcome, cv=GroupKFold(2), params={"groups": patient}, scoring="roc_auc", error_score="raise")
    assert [len(np.unique(groups)) for groups in Recorder.seen] == [60, 60]
    Recorder.seen.clear()


def test_the_schema_names_the_patients_where_routing_is_not_enabled():
    x, outcome = died_or_survived()
    rows = pl.DataFrame(x, schema=["a", "b", "c"]).with_columns(patient=np.arange(240) // 2)
    model = small(schema=nw.Schema.infer(rows).with_roles(group="patient"))
    result = cross_validate(model, rows, outcome, cv=GroupKFold(2), groups=rows["patient"], scoring="roc_auc", return_estimator=True)
    assert [fitted.summary_.patients for fitted in result["estimator"]] == [60, 60]


@pytest.mark.parametrize(
    "kind", [nw.Resampled, nw.OneClass, nw.UnknownGate, nw.WindowGate, nw.SeriesEncoder, nw.StableColumns, nw.Alerts, RiskClassifier]
)
def test_every_estimator_asks_for_groups(kind):
    model = kind(["a", "b"]) if kind in (nw.Alerts, nw.WindowGate) else kind()
    assert model.get_metadata_routing().fit.requests["groups"] is True


# ---- random_state, n_jobs, sample_weight -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(estimators()))
def test_every_estimator_has_random_state_and_only_the_risk_model_a_seed_too(name):
    parameters = estimators()[name][0](**estimators()[name][1]).get_params(deep=False)
    assert ("seed" in parameters) == (name == "RiskClassifier")
    assert ("random_state" in parameters) == (name != "EncodedClassifier")


@pytest.mark.filterwarnings("ignore::nearward.tabular.errors.DataWarning")
def test_random_state_takes_what_scikit_learn_takes():
    x, outcome = died_or_survived(300)

    def risks(random_state):
        model = nw.Resampled(sampler=None, folds=2, positive="died", random_state=random_state).fit(x, outcome)
        return model.predict_proba(x)[:, 0]

    assert (risks(3) == risks(np.int64(3))).all()
    assert (risks(np.random.RandomState(1)) == risks(np.random.RandomState(1))).all()
    assert (risks(np.random.default_rng(1)) == risks(np.random.default_rng(1))).all()
    assert (risks(None) != risks(None)).any()
    for wrong in (-1, "0", 1.5, True):
        with pytest.raises(ValueError, match="random_state must be a whole number from 0"):
            risks(wrong)


def test_bagging_sets_the_random_state_of_its_members():
    x, outcome = died_or_survived(300)
    bagged = BaggingClassifier(nw.Resampled(sampler=None, folds=2), n_estimators=2, random_state=0, bootstrap=False).fit(
        x, outcome == "died"
    )
    assert len({member.random_state for member in bagged.estimators_}) == 2


def test_the_number_of_jobs_and_reports_change_no_result(capsys):
    x, outcome = died_or_survived()
    silent = small(n_jobs=1).fit(x, outcome)
    assert not capsys.readouterr().out
    loud = small(n_jobs=3, verbose=1).fit(x, outcome)
    assert "stack" in capsys.readouterr().out.splitlines()
    assert (silent.predict_proba(x) == loud.predict_proba(x)).all()


@pytest.mark.parametrize("name", [name for name in sorted(estimators()) if name != "EncodedClassifier"])
def test_weights_are_refused_with_the_reason(name):
    kind, settings, rows, outcome = estimators()[name]
    model = kind(**settings)
    assert not has_fit_parameter(model, "sample_weight")
    with pytest.raises(ValueError, match=r"sample_weight is not supported: .*prevalence="):
        model.fit(rows, outcome, sample_weight=np.ones(rows.height))
    with pytest.raises(TypeError, match=r"fit\(\) got an unexpected keyword argument 'weights'"):
        model.fit(rows, outcome, weights=None)


_GLOBAL_STATE = """
import numpy as np
import nearward as nw
x = np.random.default_rng(0).normal(size=(240, 3))
np.random.seed(5)
before = np.random.get_state()
model = nw.RiskClassifier(folds=2, encoder=nw.EncoderConfig(steps=2)).fit(x, x[:, 0] > 0.8)
model.predict_frame(x[:5])
nw.Resampled(folds=2, sampler=None).fit(x, x[:, 0] > 0.8).predict_proba(x[:5])
after = np.random.get_state()
assert (before[1] == after[1]).all() and before[2] == after[2]
"""


def test_the_first_fit_and_predict_of_a_process_leave_numpys_global_random_state():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _GLOBAL_STATE], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
