"""Metrics by site and over sites: what is pooled and on which scale, sites without results, order, page and JSON."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.risk.results import SiteResults
from nearward.evaluation.risk.sites import POOLED_METRICS, evaluate_sites, site_names
from nearward.evaluation.stats.confidence import Estimate, Undefined
from nearward.evaluation.stats.random_effects import PooledEstimate, fit_random_effects
from nearward.tabular.calibration.log_odds import logit

OPERATING_POINT = OperatingPoint(0.1, 0.2)


def scored(rows: tuple[int, ...], shifts: tuple[float, ...], seed: int = 0) -> pl.DataFrame:
    """Sites 9, 10, 11 … whose log-odds are shifted against the risk."""
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(9, 9 + len(rows)), rows)
    log_odds = rng.normal(-1.5, 1, len(site))
    died = rng.random(len(site)) < 1 / (1 + np.exp(-log_odds - np.repeat(shifts, rows)))
    return pl.DataFrame({"died": died, "risk": 1 / (1 + np.exp(-log_odds)), "site": site, "age": rng.normal(60, 9, len(site))})


def evaluate(frame: pl.DataFrame, **options: bool) -> SiteResults:
    sample = RiskSample(frame["died"].to_numpy().astype(float), {"risk": frame["risk"].to_numpy()}, np.arange(frame.height))
    return evaluate_sites(sample, site_names(frame["site"]), OPERATING_POINT, 100, 0, **options)


@pytest.fixture(scope="module")
def report() -> nw.RiskReport:
    return nw.evaluate_risk(scored((500, 400, 600, 300), (0.0, 1.2, -0.4, 0.5)), "died", "risk", site="site", resamples=100)


def test_sites_are_in_order_and_pooled_on_their_scale(report: nw.RiskReport) -> None:
    sites = report.sites
    assert sites is not None
    assert [site.level for site in sites.sites] == ["9", "10", "11", "12"]
    assert set(sites.pooled) == set(POOLED_METRICS)  # AUPRC is not pooled
    pooled = sites.pooled["auroc"]
    assert isinstance(pooled, PooledEstimate)
    areas = [site.results["auroc"] for site in sites.sites]
    quantiles = [1.96 + 0.03] * 4  # Student's t of 60 to 200 events, nearly
    errors = np.array([logit(area.high) - logit(area.low) for area in areas]) / 2 / quantiles
    model = fit_random_effects(np.array([logit(area.value) for area in areas]), errors)
    assert logit(pooled.mean.value) == pytest.approx(model.mean, abs=0.01)
    assert pooled.mean.n == 4


def test_miscalibrated_sites_widen_the_prediction_interval(report: nw.RiskReport) -> None:
    alike = evaluate(scored((500, 400, 600, 300), (0.0,) * 4))
    assert report.sites is not None
    different, same = (one.pooled["calibration_in_the_large"] for one in (report.sites, alike))
    assert different.tau > 0.4
    assert same.tau < 0.25
    assert different.next_site.high - different.next_site.low > 2 * (different.mean.high - different.mean.low)
    table = report.pooled_table().row(by_predicate=pl.col("key") == "observed_expected", named=True)
    assert 0 < table["next_low"] < table["low"] < table["value"] < table["high"] < table["next_high"]


def test_usefulness_is_over_the_better_default(report: nw.RiskReport) -> None:
    assert report.sites is not None
    for site in report.sites.sites:
        benefit, gain = (site.results[key].value for key in ("net_benefit", "net_benefit_gain"))
        assert site.results["usefulness"].value == pytest.approx(min(benefit, gain))
    useful = sum(site.results["usefulness"].value > 0 for site in report.sites.sites)
    assert report.sites.useful == Estimate(useful / 4, report.sites.useful.low, report.sites.useful.high, 4)
    assert 0.5 < report.sites.next_useful <= 1


def test_sites_with_one_outcome_have_no_results_and_are_not_pooled() -> None:
    frame = scored((300, 400, 400, 400, 60, 60), (0.0,) * 6)
    frame = frame.with_columns(died=pl.col("died") & (pl.col("site") < 13))  # no event at the last two
    results = evaluate(frame)
    assert [bool(site.results) for site in results.sites] == [False, True, True, True, False, False]  # the first hides the two
    assert [site.events for site in results.sites[4:]] == [None, None]
    assert results.pooled["auroc"].mean.n == 3
    few = evaluate(frame.filter(pl.col("site") > 9))
    assert isinstance(few.pooled["auroc"], Undefined)
    assert "at least 3" in few.pooled["auroc"].why
    assert few.next_useful is None


def test_periods_are_not_pooled() -> None:
    results = evaluate(scored((300, 300), (0.0, 0.0)), pool=False)
    assert results.pooled == {}
    assert results.next_useful is None
    assert len(results.estimable) == 2


def test_a_missing_site_is_a_site() -> None:
    names = site_names(pl.Series("site", [10, 9, None, 10]))
    assert names.unique().sort().to_list() == ["9", "10", "(missing)"]


def test_page_and_json_have_the_sites(report: nw.RiskReport, tmp_path) -> None:
    report.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "By site" in page
    assert "next site (95 % prediction)" in page
    assert "mean over sites" in page
    report.to_json(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())["items"]["23b"]["content"]["sites"]
    assert content["pooled"]["auroc"]["mean"]["n"] == len(content["sites"]) == 4
    assert 0 < content["next_useful"] <= 1
