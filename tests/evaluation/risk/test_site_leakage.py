"""Site leakage: planted leaks are detected, harmless sites are not, in the report, on the command line and before fitting."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from nearward.cli.main import app
from nearward.evaluation.risk.report import evaluate_risk
from nearward.evaluation.risk.site_leakage import source_leak
from nearward.risk_model.data_warnings import warn_of_leakage
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import DataWarning, InputError, MissingColumns


def cohort(separated: float, tracked: float, n: int = 900, seed: int = 0) -> pl.DataFrame:
    """Three hospitals: their sodium differs by ``separated``, their event rates by ``tracked``."""
    rng = np.random.default_rng(seed)
    site = rng.integers(0, 3, n)
    age = rng.normal(60, 10, n)
    risk = 1 / (1 + np.exp(-(-1.5 + tracked * (site - 1) + 0.03 * (age - 60))))
    return pl.DataFrame(
        {
            "hospital": [f"H{s}" for s in site],
            "patient": np.arange(n) // 2,
            "age": age,
            "sodium": rng.normal(140, 3, n) + separated * site,
            "sex": rng.choice(["f", "m"], n).tolist(),
            "died": (rng.random(n) < risk).astype(int),
            "risk": risk,
        }
    )


@pytest.mark.parametrize(
    ("separated", "tracked", "words"), [(0, 0, "no sign"), (9, 0, "hardly tracks"), (0, 1.5, "hardly tell"), (9, 1.5, "instead")]
)
def test_four_kinds_of_cohort(separated: float, tracked: float, words: str) -> None:
    leak = source_leak(cohort(separated, tracked), "died", "hospital", "patient", features=["age", "sodium", "sex"])
    assert leak.leaks == (separated > 0 and tracked > 0)
    assert words in leak.verdict()
    assert (leak.site_auroc.low > 0.55) == (separated > 0)
    assert (leak.outcome_auroc.low > 0.55) == (tracked > 0)
    if separated:
        assert leak.columns[0] == "sodium"
        assert leak.site_auroc.value > 0.9


def test_random_sites_are_seldom_flagged() -> None:
    """Site names at random: neither interval may exclude .5 much more often than one time in twenty."""
    flagged = 0
    for seed in range(6):
        frame = cohort(0, 0, 400, seed)
        leak = source_leak(frame, "died", "hospital", features=["age", "sodium"], seed=seed)
        flagged += leak.site_auroc.low > 0.5 or leak.outcome_auroc.low > 0.5
    assert flagged <= 2


def test_one_hospital_of_few_patients_is_not_shown() -> None:
    frame = cohort(9, 1.5)
    rare = frame.with_columns(pl.when(pl.int_range(pl.len()) < 8).then(pl.lit("tiny")).otherwise("hospital").alias("hospital"))
    leak = source_leak(rare, "died", "hospital", features=["age", "sodium"])
    assert leak.leaks
    row = leak.rates.filter(pl.col("site") == "tiny").row(0, named=True)
    assert row["events"] is None
    assert row["rate"] is None
    assert "<10*" in leak.shown().filter(pl.col("site") == "tiny")["events"].to_list()


def test_missing_sites_are_a_source_and_seeds_repeat() -> None:
    frame = cohort(9, 1.5).with_columns(hospital=pl.when(pl.col("hospital") != "H1").then("hospital"))
    leak = source_leak(frame.lazy(), "died", "hospital", features=["age", "sodium"], seed=4)
    assert "(missing)" in leak.rates["site"].to_list()
    again = source_leak(frame, "died", "hospital", features=["age", "sodium"], seed=4)
    assert (leak.site_auroc, leak.outcome_auroc, leak.columns) == (again.site_auroc, again.outcome_auroc, again.columns)


def test_it_is_part_of_the_report(tmp_path: Path) -> None:
    report = evaluate_risk(cohort(9, 1.5), "died", "risk", "patient", site="hospital", resamples=100)
    assert report.source is not None
    assert report.source.leaks
    report.to_html(tmp_path / "page.html")
    assert "Source leak" in (tmp_path / "page.html").read_text()
    report.to_json(tmp_path / "page.json")
    content = json.loads((tmp_path / "page.json").read_text())["items"]["23a"]["content"]["source_leak"]
    assert content["leaks"] is True
    assert content["columns"][0] == "sodium"
    assert evaluate_risk(cohort(0, 0), "died", "risk", "patient", resamples=100).source is None


def test_command_line(tmp_path: Path) -> None:
    cohort(9, 1.5).write_parquet(tmp_path / "scored.parquet")
    result = CliRunner().invoke(
        app, ["evaluate", "risk", str(tmp_path / "scored.parquet"), "--outcome", "died", "--site", "hospital", "--resamples", "100"]
    )
    assert result.exit_code == 0, result.output
    assert "source leak: a model can learn the source instead" in result.output.replace("\n", " ")


def test_it_warns_before_fitting() -> None:
    def warned(frame: pl.DataFrame) -> list[str]:
        schema = Schema.infer(frame).with_roles(site="hospital", outcome="died", group="patient", ignore="risk")
        assert schema.features == ("age", "sodium", "sex")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            died, patient = (frame[name].to_numpy().astype(np.int64) for name in ("died", "patient"))
            warn_of_leakage(frame, schema.conform(frame), schema, died, patient, 0)
        return [str(one.message) for one in caught if issubclass(one.category, DataWarning)]

    assert "instead of the illness" in warned(cohort(9, 1.5))[0]
    assert warned(cohort(9, 0)) == []
    assert "not checked" in warned(cohort(9, 1.5).with_columns(hospital=pl.lit("H0")))[0]


def test_refusals() -> None:
    frame = cohort(0, 0)
    with pytest.raises(MissingColumns, match="hospitals"):
        source_leak(frame, "died", "hospitals")
    with pytest.raises(InputError, match="fewer than two"):
        source_leak(frame.with_columns(hospital=pl.lit("H0")), "died", "hospital")
    with pytest.raises(InputError, match="features must be"):
        source_leak(frame, "died", "hospital", features=["died", "age"])
    with pytest.raises(InputError, match="X must be a frame"):
        source_leak(None, "died", "hospital")


def test_lists_are_no_sites() -> None:
    frame = pl.DataFrame({"ill": [True, False] * 40, "site": [["A"], ["B"]] * 40, "age": list(range(80)), "risk": [0.5, 0.4] * 40})
    refused = pytest.raises(InputError, match=r"site 'site' has dtype List\(String\): numbers or text are needed, one value a row")
    with refused:
        source_leak(frame, "ill", "site")
    with refused:
        evaluate_risk(frame, "ill", "risk", site="site", resamples=100)
