"""``evaluate_risk`` and ``compare_risks``: results, errors, and no NaN in any output."""

from __future__ import annotations

import json
import math
import stat
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

import nearward as nw
from nearward.evaluation.risk.tripod_json import ITEMS, tripod
from nearward.evaluation.stats.confidence import Estimate, PointEstimate, Undefined
from nearward.tabular.errors import InputError, MissingColumns, TooFewEvents

NASTY = "<script>alert(1)</script>"
FORMULA = "=cmd|' /C calc'!A0"


def scored(rows: int = 1500, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    logit = rng.normal(-2, 1.2, rows)
    return pl.DataFrame(
        {
            "died": (rng.random(rows) < 1 / (1 + np.exp(-logit))),
            "risk": 1 / (1 + np.exp(-logit)),
            "apache": 1 / (1 + np.exp(-(logit + rng.normal(0, 1.5, rows)))),
            "patient": rng.integers(0, 900, rows),
            "sex": rng.choice(["F", "M"], rows).tolist(),
            "ward": rng.choice([NASTY, FORMULA, "ICU"], rows, p=[0.5, 0.475, 0.025]).tolist(),
            "site": [f"s{i}" for i in rng.integers(0, 12, rows)],
            "seen": [date(2021, 1, 1) + timedelta(days=i) for i in range(rows)],
        }
    )


@pytest.fixture(scope="module")
def report() -> nw.RiskReport:
    return nw.evaluate_risk(scored(), "died", "risk", "patient", ["sex", "ward"], strata=["site"], time="seen", resamples=200)


def assert_finite(content: Any) -> None:
    """Every number in something that came from JSON is finite."""
    if isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            assert_finite(value)
    elif isinstance(content, float):
        assert math.isfinite(content)


def test_report_agrees_with_scikit_learn(report: nw.RiskReport) -> None:
    frame = scored()
    assert (report.facts.rows, report.facts.events) == (1500, frame["died"].sum())
    assert report.facts.patients == frame["patient"].n_unique()
    assert report["auroc"].value == pytest.approx(roc_auc_score(frame["died"], frame["risk"]))
    assert report["auprc"].value == pytest.approx(average_precision_score(frame["died"], frame["risk"]))
    assert report["calibration_slope"].low < 1 < report["calibration_slope"].high
    assert report.facts.threshold == pytest.approx(frame["died"].mean())
    assert report["net_benefit_all"].value == pytest.approx(0, abs=1e-12)
    assert report.table().height == len(report.metrics)
    assert report.table()["value"].is_finite().all()
    assert {part.column for part in report.subgroups} == {"sex", "ward"}
    assert report.strata_table()["level"].unique().len() >= 1
    assert report.period_table()["level"].unique().sort().to_list() == ["2021", "2022", "2023", "2024", "2025"]


def test_same_seed_same_report(report: nw.RiskReport) -> None:
    again = nw.evaluate_risk(scored().lazy(), "died", "risk", "patient", ["sex", "ward"], strata=["site"], time="seen", resamples=200)
    assert again.metrics == report.metrics
    assert again.subgroups == report.subgroups
    assert again.curves.roc.equals(report.curves.roc)
    other = nw.evaluate_risk(scored(), "died", "risk", "patient", resamples=200, seed=1)
    assert other["auroc"].value == report["auroc"].value
    assert other["auroc"].low != report["auroc"].low


@pytest.mark.parametrize(
    ("outcome", "positive"),
    [([1, 0], None), ([True, False], None), (["yes", "no"], None), (["alive", "dead"], "alive"), ([1.0, 0.0], 1), ([2, 9], 2)],
)
def test_outcomes_of_every_kind(outcome, positive) -> None:
    frame = scored(400).with_columns(died=pl.Series([outcome[0] if died else outcome[1] for died in scored(400)["died"]]))
    report = nw.evaluate_risk(frame, "died", "risk", positive=positive, resamples=100)
    assert report["auroc"].value == pytest.approx(roc_auc_score(scored(400)["died"], frame["risk"]))


def test_the_order_of_an_enum_does_not_turn_the_event_round() -> None:
    """A fit reads its values as text, so the report must too."""
    name = pl.when(pl.col("died") == 1).then(pl.lit("yes")).otherwise(pl.lit("no"))
    plain, enum = (scored(400).with_columns(died=name.cast(kind)) for kind in (pl.String, pl.Enum(["yes", "no"])))
    aurocs = [nw.evaluate_risk(frame, "died", "risk", resamples=100)["auroc"].value for frame in (plain, enum)]
    assert aurocs[0] == aurocs[1]


def test_json_is_keyed_by_item_and_blanks_are_blank(report: nw.RiskReport, tmp_path) -> None:
    path = tmp_path / "report.json"
    report.to_json(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert_finite(content)
    items = content["items"]
    assert list(items) == list(ITEMS)
    assert items["17"] == {"title": "Ethical approval", "content": None}
    performance = items["23a"]["content"]
    assert performance["metrics"]["auprc"]["low"] < performance["metrics"]["auprc"]["value"] < performance["metrics"]["auprc"]["high"]
    assert len(performance["curves"]["roc"]["recall"]) == len(performance["curves"]["roc"]["low"]) == 101
    assert items["21"]["content"]["events"] == report.facts.events
    assert items["23b"]["content"]["strata"][0]["column"] == "site"
    assert [period["level"] for period in performance["periods"]][:2] == ["2021", "2022"]


def test_small_counts_are_suppressed_in_every_output(report: nw.RiskReport, tmp_path) -> None:
    frame = scored().filter(pl.col("ward") == "ICU")
    assert 0 < frame["died"].sum() < 10  # the case is what it should be
    hidden = [part for part in report.subgroups if part.column == "ward" and part.events is None]
    assert len(hidden) == 2
    report.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("&lt;10*") >= 2
    wards = [part for part in tripod(report)["items"]["23a"]["content"]["subgroups"] if part["column"] == "ward"]
    assert [part["metrics"] for part in wards if part["level"] == "ICU"] == [None]
    suppressed = report.subgroup_table().filter((pl.col("column") == "ward") & (pl.col("level") == "ICU"))
    assert suppressed["value"].to_list() == [None]
    assert suppressed["why"].to_list() == ["withheld"]


def test_names_are_escaped_in_the_page(report: nw.RiskReport, tmp_path) -> None:
    similar = pl.DataFrame({"patient": [1], "differs": [NASTY], "=1+1": [FORMULA]})
    report.to_html(tmp_path / "report.html", similar, f"of {NASTY}")
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&#39;=cmd" in page
    assert "guard the page" in page
    assert page.count("<svg") == 4 + 2 + 2 + 3  # curves; forest plots of subgroups, of strata, in two layouts; three pictures over time
    assert "nan" not in page.lower().replace("finance", "")


def test_constant_risks_have_reasons_in_words(tmp_path) -> None:
    report = nw.evaluate_risk(scored(500).with_columns(risk=pl.lit(0.2)), "died", "risk", resamples=100)
    assert (report["auroc"].value, report["auroc"].low, report["auroc"].high) == (0.5, 0.5, 0.5)
    assert report["auprc"].value == pytest.approx(scored(500)["died"].mean())
    assert report["auprc"].low < report["auprc"].value < report["auprc"].high
    assert report["calibration_slope"] is None
    assert report.metrics["calibration_slope"].why.startswith("the risks are all equal")
    assert isinstance(report.curves.calibration, Undefined)
    assert any("all equal" in note for note in report.notes)
    report.to_html(tmp_path / "equal.html")
    report.to_json(tmp_path / "equal.json")
    assert_finite(json.loads((tmp_path / "equal.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON")))
    assert "No value where a dash stands" in (tmp_path / "equal.html").read_text()


def test_a_perfect_ranking_has_an_interval_of_some_width(tmp_path) -> None:
    frame = pl.DataFrame({"died": [1] * 12 + [0] * 100, "risk": np.linspace(1, 0, 112)})
    report = nw.evaluate_risk(frame, "died", "risk", resamples=100)
    assert report["auroc"].value == 1
    assert report["auroc"].low == pytest.approx(0.025 ** (1 / 12))
    assert report["calibration_slope"] is None
    assert isinstance(report.curves.calibration, Undefined)
    assert any("within 1e-06" in note for note in report.notes)  # risks of exactly 0 and 1
    report.to_json(tmp_path / "report.json")


def test_the_rarest_case_that_is_judged_has_no_nan(tmp_path) -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"died": [1] * 10 + [0] * 10, "risk": rng.random(20).round(1)})
    report = nw.evaluate_risk(frame, "died", "risk", resamples=100)
    report.to_html(tmp_path / "report.html")
    report.to_json(tmp_path / "report.json")
    assert_finite(json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON")))


def test_a_value_without_an_interval_is_shown_with_the_reason(tmp_path) -> None:
    """One pair of rows keeps the outcomes from being separated: many resamples lack it, and have no calibration line."""
    risk = np.linspace(0.05, 0.95, 40)
    outcome = np.repeat([0, 1], 20)
    outcome[[19, 20]] = 1, 0
    frame = pl.DataFrame({"died": outcome, "risk": risk})
    report = nw.evaluate_risk(frame, "died", "risk", resamples=200, alert_rate=0.5)
    slope = report.metrics["calibration_slope"]
    assert isinstance(slope, PointEstimate)
    expected = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(np.log(risk / (1 - risk))[:, None], outcome).coef_[0, 0]
    assert slope.value == pytest.approx(expected, rel=1e-3)
    assert report["calibration_slope"] is None
    row = report.table().filter(pl.col("key") == "calibration_slope").row(0, named=True)
    assert row["value"] == slope.value
    assert row["low"] is None
    assert "resamples" in row["why"]
    assert "no interval: no finite value in" in str(slope)
    report.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert f"{slope.value:.2f} <small>(no interval)</small>" in page
    assert "Calibration slope: no interval, no finite value in" in page
    report.to_json(tmp_path / "report.json")
    metrics = json.loads((tmp_path / "report.json").read_text())["items"]["23a"]["content"]["metrics"]
    assert metrics["calibration_slope"] == {"title": "Calibration slope", "value": slope.value, "why": slope.why, "n": 40}


@pytest.mark.parametrize("seed", range(3))
def test_overfitted_risks_have_a_calibration_line(seed) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(900, 8))
    died = rng.random(900) < 1 / (1 + np.exp(1.5 - features[:, 0]))
    model = HistGradientBoostingClassifier(random_state=seed).fit(features[:450], died[:450])
    frame = pl.DataFrame({"died": died[450:], "risk": model.predict_proba(features[450:])[:, 1]})
    slope = nw.evaluate_risk(frame, "died", "risk", resamples=100)["calibration_slope"]
    assert slope is not None
    assert slope.low < slope.value < 0.5


BAD = [
    ({"risk": pl.col("risk") * 100}, {}, InputError, r"risk 'risk' lies outside \[0, 1\] in \d+ of 1500 rows.*Divide by 100"),
    ({"risk": pl.when(pl.int_range(pl.len()) == 3).then(float("nan")).otherwise("risk")}, {}, InputError, "missing .* in 1 of 1500 rows"),
    ({"risk": pl.when(pl.int_range(pl.len()) < 2).then(None).otherwise("risk")}, {}, InputError, "missing .* in 2 of 1500 rows"),
    ({"risk": pl.col("sex")}, {}, InputError, "'risk' holds String, not numbers"),
    ({"died": pl.lit(1)}, {}, InputError, "same value in every row"),
    ({"died": pl.lit(None, dtype=pl.Int8)}, {}, InputError, "1500 missing values .* in 1500 rows"),
    ({"died": pl.int_range(pl.len()) % 3}, {}, InputError, "has 3 different values"),
    ({"died": pl.int_range(pl.len()) < 9}, {}, TooFewEvents, "9 events are too few to evaluate a risk"),
    ({"died": pl.int_range(pl.len()) >= 9}, {}, InputError, "9 rows without the event are too few"),
    ({}, {"outcome": "dead"}, MissingColumns, "'dead': did you mean 'died'"),
    ({}, {"risk": "risks"}, MissingColumns, "did you mean 'risk'"),
    ({}, {"group": "patients"}, MissingColumns, "did you mean 'patient'"),
    ({}, {"subgroups": ["sec"]}, MissingColumns, "did you mean 'sex'"),
    ({}, {"subgroups": "sex"}, InputError, r'Write \["sex"\]'),
    ({}, {"subgroups": ["risk"]}, InputError, "the outcome or the risk itself"),
    ({}, {"subgroups": ["patient"]}, InputError, "cut it into bands"),
    ({"patient": pl.lit(None, dtype=pl.Int64)}, {"group": "patient"}, InputError, "group 'patient' has 1500 missing values"),
    ({}, {"positive": "yes"}, InputError, "no row of outcome 'died' has the value of the event"),
    ({}, {"risk": "died"}, InputError, "both as the outcome and as a risk"),
    ({}, {"alert_rate": 5.0}, InputError, "alert_rate must lie between 0 and 1"),
    ({}, {"resamples": 10}, InputError, "whole number from 100"),
    ({}, {"seed": -1}, InputError, "whole number from 0"),
]


@pytest.mark.parametrize(("change", "arguments", "error", "words"), BAD, ids=[case[3] for case in BAD])
def test_bad_input_is_refused_in_words(change, arguments, error, words) -> None:
    frame = scored().with_columns(**change)
    with pytest.raises(error, match=words):
        nw.evaluate_risk(frame, **{"outcome": "died", "risk": "risk", **arguments})


def test_no_patients_value_in_an_error() -> None:
    with pytest.raises(InputError) as refused:
        nw.evaluate_risk(scored().with_columns(risk=pl.col("risk") + 41.7), "died", "risk")
    assert "41" not in str(refused.value)


def test_comparison_is_paired_and_first_less_other(tmp_path) -> None:
    frame = scored()
    comparison = nw.compare_risks(frame, "died", ["risk", "apache"], "patient", resamples=200)
    difference = comparison.differences["apache"]["auroc"]
    assert isinstance(difference, Estimate)
    assert difference.value == pytest.approx(roc_auc_score(frame["died"], frame["risk"]) - roc_auc_score(frame["died"], frame["apache"]))
    reverse = nw.compare_risks(frame, "died", ["apache", "risk"], "patient", resamples=200).differences["risk"]["auroc"]
    assert (reverse.value, reverse.low, reverse.high) == pytest.approx((-difference.value, -difference.high, -difference.low))
    alone = nw.evaluate_risk(frame, "died", "apache", "patient", resamples=200)
    assert comparison.metrics["apache"] == alone.metrics  # the same draws
    comparison.to_html(tmp_path / "comparison.html")
    comparison.to_json(tmp_path / "comparison.json")
    assert_finite(json.loads((tmp_path / "comparison.json").read_text()))
    assert (tmp_path / "comparison.html").read_text().count("<svg") == 4
    assert comparison.difference_table()["less"].unique().to_list() == ["apache"]
    assert comparison.table()["risk"].n_unique() == 2


@pytest.mark.parametrize("risks", ["risk", ["risk"], ["risk", "risk"]])
def test_two_risks_are_needed_to_compare(risks) -> None:
    with pytest.raises(InputError, match="two different columns"):
        nw.compare_risks(scored(), "died", risks)
