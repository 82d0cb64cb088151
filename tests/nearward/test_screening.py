"""Screening: recall at the budget is measured on rows and patients that the ranker had not seen."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.screening import _hits, _placed, screen
from nearward.tabular.errors import DataWarning, InputError


def made(events: int, far: float, n: int = 400) -> tuple[pl.DataFrame, np.ndarray]:
    outcome = (np.arange(n) < events).astype(int)
    x = np.random.default_rng(0).normal(size=(n, 3)) + far * outcome[:, None]
    return pl.DataFrame(x, schema=["a", "b", "c"]), outcome


@pytest.mark.filterwarnings("ignore:a logistic regression")
@pytest.mark.parametrize("method", ["dsvdd", "droc"])
def test_planted_events_are_found_and_usual_ones_are_not(method: str) -> None:
    ranker = nw.OneClass(method=method, steps=60)
    far = screen(*made(8, 5.0), ranker=ranker)
    assert far.recall.value >= 7 / 8
    assert (far.recall.n, far.events, far.budget) == (8, 8, 0.05)
    like_all = screen(*made(16, 0.0), ranker=ranker, budget=0.1)
    assert like_all.recall.value < 0.5
    assert like_all.recall.low <= 0.1 <= like_all.recall.high


def test_one_event_is_enough_and_its_interval_says_so() -> None:
    found = nw.screen(*made(1, 6.0), ranker=nw.OneClass(steps=30))
    assert str(found.recall) == "1.000 (0.025 to 1.000)"


def test_the_budget_is_kept_on_new_rows() -> None:
    frame, outcome = made(5, 5.0)
    ranked = screen(frame, outcome, budget=0.1, ranker=nw.OneClass(steps=30)).rank(frame[:50])
    assert ranked["alert"].sum() == 5
    assert ranked["score"].is_sorted(descending=True)
    assert set(ranked["row"][:5]) <= set(range(10))


class Strict(nw.OneClass):
    """A ranker that scores by a column, and breaks when it is asked about a patient that it learned from."""

    def fit(self, X, y=None, groups=None):
        self.seen_ = set(X["patient"])
        return self

    def decision_function(self, X):
        assert not self.seen_ & set(X["patient"])
        return X["a"].to_numpy()


def test_rows_are_ranked_by_models_without_their_patient_and_the_recall_is_that_of_the_alerts() -> None:
    draw = np.random.default_rng(0)
    patient = draw.integers(0, 90, 300)
    frame = pl.DataFrame({"a": draw.normal(size=300), "patient": patient})
    outcome = (np.arange(300) % 25 == 0).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        found = screen(frame, outcome, groups=patient, budget=0.2, ranker=Strict())
    told = found.out_of_fold
    assert sorted(told["row"]) == list(range(300))
    assert told["share"].is_sorted(descending=True)
    assert told["share"].is_between(0, 1, closed="left").all()
    assert abs(told["alert"].sum() - 60) <= 5  # rounded in each of five folds
    assert told.filter("alert")["share"].min() >= told.filter(~pl.col("alert"))["share"].max() - 0.05
    hits = outcome[told.filter("alert")["row"].to_numpy()].sum()
    assert found.recall.value == pytest.approx(hits / 12)


def test_events_change_nothing_in_the_ranker() -> None:
    """Labels decide which rows teach; swapping which of two far rows is the event does not move the others' order."""
    frame, outcome = made(5, 5.0)
    ranker = screen(frame, outcome, ranker=nw.OneClass(steps=10)).ranker
    alone = nw.OneClass(steps=10).fit(frame.filter(outcome == 0))
    assert ranker.decision_function(frame) == pytest.approx(alone.decision_function(frame), abs=1e-12)


def test_from_twenty_events_up_it_advises_a_supervised_model() -> None:
    ranker = nw.OneClass(steps=2)
    with pytest.warns(DataWarning, match="20 events: from 20 up fit a RiskClassifier"):
        screen(*made(20, 1.0), ranker=ranker)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        screen(*made(8, 6.0), ranker=nw.OneClass(steps=60))  # and is silent where the ranker finds as many


def test_a_linear_model_that_finds_more_is_told_of() -> None:
    """Events that differ in one direction only, within what is usual: nothing for one-class, all for a line."""
    outcome = (np.arange(600) < 15).astype(int)
    x = np.random.default_rng(0).normal(size=(600, 12))
    x[:, 0] = np.where(outcome == 1, 2.2, x[:, 0].clip(max=1.5))
    frame = pl.DataFrame(x, schema=[f"c{j}" for j in range(12)])
    with pytest.warns(DataWarning, match="a logistic regression on the same few events finds"):
        found = screen(frame, outcome, ranker=nw.OneClass(steps=40))
    assert found.linear.value > found.recall.value
    assert screen(*made(1, 6.0), ranker=nw.OneClass(steps=5)).linear is None


def test_bad_input() -> None:
    frame, outcome = made(5, 1.0)
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


class Level(nw.OneClass):
    """A ranker to which all rows are alike but for a coin's side."""

    def fit(self, X, y=None, groups=None):
        return self

    def decision_function(self, X):
        return X["coin"].cast(pl.Float64).to_numpy()


@pytest.mark.filterwarnings("ignore::nearward.tabular.errors.DataWarning")
@pytest.mark.parametrize("first", [True, False])
def test_ties_fall_by_lot_however_the_table_is_sorted(first: bool) -> None:
    """On a column that knows nothing, 30 % of the rows find about 30 % of 100 events: standard deviation .045."""
    n, events = 1000, 100
    outcome = np.arange(n) < events if first else np.arange(n) >= n - events
    coin = pl.DataFrame({"coin": np.random.default_rng(0).integers(0, 2, n)})
    found = screen(coin, outcome, budget=0.3, ranker=Level())
    assert abs(found.recall.value - 0.3) < 0.14
    assert abs(found.linear.value - 0.3) < 0.14
    assert found.out_of_fold.equals(screen(coin, outcome, budget=0.3, ranker=Level()).out_of_fold)


def test_equal_scores_fall_alike_in_both_counts() -> None:
    score, outcome = np.zeros(50), (np.arange(50) < 20).astype(int)
    placed = _placed(np.arange(50), score, 0.3, (0, 1))
    assert outcome[placed.filter("alert")["row"].to_numpy()].sum() == _hits(score, outcome, 0.3, (0, 1))
    assert placed["row"].to_list() != list(range(50))
