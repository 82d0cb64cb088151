"""``transport``: each row is judged by a model that has seen neither its site nor its patient; splits by time; refusals; page and JSON."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

import nearward as nw
from nearward.evaluation.stats.confidence import Undefined
from nearward.tabular.errors import InputError, MissingColumns, TooFewEvents


def cohort(n: int = 1200, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    age, hospital = rng.normal(0, 1, n), rng.integers(0, 4, n)
    died = rng.random(n) < 1 / (1 + np.exp(1.2 - age - 0.8 * (hospital == 3)))
    seen = [date(2020, 1, 1) + timedelta(days=int(day)) for day in rng.integers(0, 700, n)]
    return pl.DataFrame({"age": age, "hospital": hospital, "seen": seen, "patient": rng.integers(0, n, n), "died": died})


class Recorder(ClassifierMixin, BaseEstimator):
    """A classifier that records what it was fitted on, and predicts by age."""

    fits: list[tuple[pl.DataFrame, Any]]

    def __init__(self, fits: Any = None) -> None:
        self.fits = fits

    def __sklearn_clone__(self) -> Recorder:
        return Recorder(self.fits)

    def fit(self, X: pl.DataFrame, y: Any, groups: Any = None) -> Recorder:
        self.fits.append((X, groups))
        return self

    def predict_proba(self, X: pl.DataFrame) -> Any:
        risk = 1 / (1 + np.exp(1.2 - X["age"].to_numpy()))
        return np.column_stack([1 - risk, risk])


@pytest.fixture(scope="module")
def report() -> nw.TransportReport:
    frame = cohort()
    return nw.transport(LogisticRegression(), frame.select("age", "hospital"), frame["died"], site="hospital", resamples=100)


def test_each_site_is_judged_by_a_model_without_it(report: nw.TransportReport) -> None:
    frame = cohort()
    here = (frame["hospital"] == 2).to_numpy()
    x, y = frame.select("age").to_numpy(), frame["died"].to_numpy()
    by_hand = LogisticRegression().fit(x[~here], y[~here]).predict_proba(x[here])[:, 1]
    assert report.risks[here] == pytest.approx(by_hand)
    assert [site.level for site in report.results.sites] == ["0", "1", "2", "3"]
    assert (report.model, report.facts.outcome) == ("LogisticRegression", "died")


def test_the_site_with_another_level_is_miscalibrated_there(report: nw.TransportReport) -> None:
    shift = report.table().filter(pl.col("key") == "calibration_in_the_large")
    assert shift["low"][3] > 0.3
    assert report.pooled_table().filter(pl.col("key") == "auroc")["sites"].item() == 4


def test_no_patient_is_on_both_sides_and_named_columns_are_no_features() -> None:
    frame, fits = cohort(), []
    nw.transport(Recorder(fits), frame.drop("died"), frame["died"], site="hospital", time="seen", cut="2021-01-01", groups="patient")
    dates = frame.with_row_index()
    after = dates.filter(pl.col("seen") >= date(2021, 1, 1))
    for hospital, (X, groups) in enumerate(fits):
        assert X.columns == ["age"]
        trained = dates.join(X.with_columns(fitted=True), on="age")
        assert trained.height == X.height == len(groups)
        assert trained["seen"].max() < date(2021, 1, 1)
        assert hospital not in trained["hospital"].to_list()
        judged = after.filter(pl.col("hospital") == hospital)["patient"]
        assert not set(trained["patient"]) & set(judged)


def test_by_time_each_period_is_judged_by_the_rows_before_it() -> None:
    frame, fits = cohort(), []
    cuts = [date(2021, 3, 1), date(2020, 9, 1)]
    report = nw.transport(Recorder(fits), frame.select("age"), frame["died"], time=frame["seen"], cut=cuts, resamples=100)
    assert [len(X) for X, _ in fits] == [(frame["seen"] < cut).sum() for cut in sorted(cuts)]
    assert [site.level for site in report.results.sites] == ["from 2020-09-01 to before 2021-03-01", "from 2021-03-01"]
    assert np.isnan(report.risks).sum() == (frame["seen"] < cuts[1]).sum()
    assert report.results.pooled == {}  # periods are not exchangeable


def test_arrays_and_pandas_frames_are_passed_on_as_they_are(report: nw.TransportReport) -> None:
    pd = pytest.importorskip("pandas")
    frame = cohort()
    array = nw.transport(
        LogisticRegression(), frame.select("age").to_numpy(), frame["died"], site=frame["hospital"].to_numpy(), resamples=100
    )
    assert array.risks == pytest.approx(report.risks)
    table = pd.DataFrame({"age": frame["age"].to_numpy(), "hospital": frame["hospital"].to_numpy()})
    assert nw.transport(LogisticRegression(), table, frame["died"], site="hospital", resamples=100).risks == pytest.approx(report.risks)


def test_a_site_with_one_outcome_is_not_estimable_and_two_sites_are_not_pooled() -> None:
    frame = cohort().filter(pl.col("hospital") < 3).with_columns(died=pl.col("died") & (pl.col("hospital") != 1))
    report = nw.transport(Recorder([]), frame.select("age", "hospital"), frame["died"], site="hospital", resamples=100)
    assert sum(not site.results for site in report.results.sites) == 2  # that one, and another that would give it away
    assert isinstance(report.results.pooled["auroc"], Undefined)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, InputError, "site or time is needed"),
        ({"time": "seen"}, InputError, "belong together"),
        ({"site": "hospital", "cut": "2021-01-01"}, InputError, "belong together"),
        ({"site": "ward"}, MissingColumns, "ward"),
        ({"site": np.zeros(1200)}, InputError, "same value in every row"),
        ({"site": np.zeros(3)}, InputError, "3 values and the frame 1200 rows"),
        ({"time": "seen", "cut": "spring"}, InputError, "cut='spring'"),
        ({"time": "seen", "cut": "2031-01-01"}, InputError, "within the period"),
        ({"time": "seen", "cut": "2020-01-08"}, TooFewEvents, "fit model 1 of 1"),
        ({"site": "hospital", "time": "seen", "cut": ["2020-06-01", "2021-01-01"]}, InputError, "one cut"),
    ],
)
def test_refusals(options: dict[str, Any], error: type[InputError], message: str) -> None:
    frame = cohort()
    with pytest.raises(error, match=message):
        nw.transport(Recorder([]), frame.drop("died"), frame["died"], **options)


def test_a_model_without_probabilities_for_some_rows_is_refused() -> None:
    frame = cohort().with_columns(age=pl.when(pl.col("age") > 2).then(float("nan")).otherwise("age"))
    with pytest.raises(InputError, match="Recorder has no probability for"):
        nw.transport(Recorder([]), frame.drop("died"), frame["died"], site="hospital", resamples=100)


def test_page_and_json_name_no_patient(report: nw.TransportReport, tmp_path) -> None:
    report.to_html(tmp_path / "transport.html")
    page = (tmp_path / "transport.html").read_text()
    assert "each time without one site" in page
    assert "next site" in page
    assert page.count("<svg") == 2  # one layout for a desk, one for a phone
    report.to_json(tmp_path / "transport.json")
    content = json.loads((tmp_path / "transport.json").read_text())
    assert content["pooled"]["auroc"]["mean"]["n"] == 4
    assert "risks" not in content
