"""Screening: recall at the budget is measured on rows and patients that the ranker was not fitted on."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.screening import _count_hits, _rank, screen
from nearward.tabular.errors import DataWarning, InputError


def make_cohort(events: int, shift: float, n: int = 400) -> tuple[pl.DataFrame, np.ndarray]:
    outcome = (np.arange(n) < events).astype(int)
    x = np.random.default_rng(0).normal(size=(n, 3)) + shift * outcome[:, None]
    return pl.DataFrame(x, schema=["a", "b", "c"]), outcome


@pytest.mark.filterwarnings("ignore:a logistic regression")
@pytest.mark.parametrize("method", ["dsvdd", "droc"])
def test_distinct_events_are_recalled_and_typical_ones_are_not(method: str) -> None:
    ranker = nw.OneClass(method=method, steps=60)
    distinct = screen(*make_cohort(8, 5.0), ranker=ranker)
    assert distinct.recall.value >= 7 / 8
    assert (distinct.recall.n, distinct.events, distinct.budget) == (8, 8, 0.05)
    typical = screen(*make_cohort(16, 0.0), ranker=ranker, budget=0.1)
    assert typical.recall.value < 0.5
    assert typical.recall.low <= 0.1 <= typical.recall.high


def test_one_event_is_enough() -> None:
    screening = nw.screen(*make_cohort(1, 6.0), ranker=nw.OneClass(steps=30))
    assert str(screening.recall) == "1.000 (0.025 to 1.000)"


def test_the_budget_bounds_the_alerts_on_new_rows() -> None:
    frame, outcome = make_cohort(5, 5.0)
    ranked = screen(frame, outcome, budget=0.1, ranker=nw.OneClass(steps=30)).rank(frame[:50])
    assert ranked["alert"].sum() == 5
    assert ranked["score"].is_sorted(descending=True)
    assert set(ranked["row"][:5]) <= set(range(10))


class Strict(nw.OneClass):
    """A ranker that scores by a column, and fails on patients that it was fitted on."""

    def fit(self, X, y=None, groups=None):
        self.patients_ = set(X["patient"])
        return self

    def decision_function(self, X):
        assert not self.patients_ & set(X["patient"])
        return X["a"].to_numpy()


def test_rows_are_ranked_by_models_without_their_patient_and_the_recall_is_that_of_the_alerts() -> None:
    rng = np.random.default_rng(0)
    patient = rng.integers(0, 90, 300)
    frame = pl.DataFrame({"a": rng.normal(size=300), "patient": patient})
    outcome = (np.arange(300) % 25 == 0).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        screening = screen(frame, outcome, groups=patient, budget=0.2, ranker=Strict())
    ranked = screening.out_of_fold
    assert sorted(ranked["row"]) == list(range(300))
    assert ranked["share"].is_sorted(descending=True)
    assert ranked["share"].is_between(0, 1, closed="left").all()
    assert abs(ranked["alert"].sum() - 60) <= 5  # rounded in each of five folds
    assert ranked.filter("alert")["share"].min() >= ranked.filter(~pl.col("alert"))["share"].max() - 0.05
    hits = outcome[ranked.filter("alert")["row"].to_numpy()].sum()
    assert screening.recall.value == pytest.approx(hits / 12)


def test_events_do_not_train_the_ranker() -> None:
    """The ranker equals one that is fitted on the rows without the event alone."""
    frame, outcome = make_cohort(5, 5.0)
    ranker = screen(frame, outcome, ranker=nw.OneClass(steps=10)).ranker
    reference = nw.OneClass(steps=10).fit(frame.filter(outcome == 0))
    assert ranker.decision_function(frame) == pytest.approx(reference.decision_function(frame), abs=1e-12)


def test_from_twenty_events_up_a_supervised_model_is_recommended() -> None:
    ranker = nw.OneClass(steps=2)
    with pytest.warns(DataWarning, match="20 events: from 20 up fit a RiskClassifier"):
        screen(*make_cohort(20, 1.0), ranker=ranker)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        screen(*make_cohort(8, 6.0), ranker=nw.OneClass(steps=60))  # no warning where the ranker's recall is as high


def test_a_linear_model_with_a_higher_recall_is_recommended() -> None:
    """Events shifted along one feature within the usual range: visible to a linear model, not to a one-class model."""
    outcome = (np.arange(600) < 15).astype(int)
    x = np.random.default_rng(0).normal(size=(600, 12))
    x[:, 0] = np.where(outcome == 1, 2.2, x[:, 0].clip(max=1.5))
    frame = pl.DataFrame(x, schema=[f"c{j}" for j in range(12)])
    with pytest.warns(DataWarning, match="a logistic regression on the same few events finds"):
        screening = screen(frame, outcome, ranker=nw.OneClass(steps=40))
    assert screening.linear.value > screening.recall.value
    assert screen(*make_cohort(1, 6.0), ranker=nw.OneClass(steps=5)).linear is None


def test_bad_input() -> None:
    frame, outcome = make_cohort(5, 1.0)
    with pytest.raises(InputError, match="budget must lie"):
        screen(frame, outcome, budget=1.0)
    with pytest.raises(InputError, match="folds must be"):
        screen(frame, outcome, folds=1)
    with pytest.raises(InputError, match="ranker must be"):
        screen(frame, outcome, ranker=nw.Resampled())
    with pytest.raises(InputError, match="one class"):
        screen(frame, np.zeros(400))
    with pytest.raises(InputError, match="too few for one-class"):
        screen(frame[:40], outcome[:40])


class TwoScores(nw.OneClass):
    """A ranker with only two different scores."""

    def fit(self, X, y=None, groups=None):
        return self

    def decision_function(self, X):
        return X["coin"].cast(pl.Float64).to_numpy()


@pytest.mark.filterwarnings("ignore::nearward.tabular.errors.DataWarning")
@pytest.mark.parametrize("first", [True, False])
def test_ties_are_broken_at_random_whatever_the_order_of_the_table(first: bool) -> None:
    """With an uninformative column, a budget of 30 % recalls about 30 % of 100 events: standard deviation .045."""
    n, events = 1000, 100
    outcome = np.arange(n) < events if first else np.arange(n) >= n - events
    coin = pl.DataFrame({"coin": np.random.default_rng(0).integers(0, 2, n)})
    screening = screen(coin, outcome, budget=0.3, ranker=TwoScores())
    assert abs(screening.recall.value - 0.3) < 0.14
    assert abs(screening.linear.value - 0.3) < 0.14
    assert screening.out_of_fold.equals(screen(coin, outcome, budget=0.3, ranker=TwoScores()).out_of_fold)


def test_both_recalls_break_ties_alike() -> None:
    score, outcome = np.zeros(50), (np.arange(50) < 20).astype(int)
    ranked = _rank(np.arange(50), score, 0.3, (0, 1))
    assert outcome[ranked.filter("alert")["row"].to_numpy()].sum() == _count_hits(score, outcome, 0.3, (0, 1))
    assert ranked["row"].to_list() != list(range(50))
