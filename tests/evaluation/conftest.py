"""Every kind of page once, on small data: for tests of what a reader sees."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

import nearward as nw
from nearward.adaptation.summary import Adaptation, AdaptationStep, RiskGroup
from nearward.evaluation.calibration_drift import CalibrationDrift
from nearward.evaluation.drift_report import RunFigures, drift_page
from nearward.evaluation.events.description import describe_events
from nearward.evaluation.events.html_report import events_page
from nearward.evaluation.html_page import write_html
from nearward.evaluation.provenance import Provenance
from nearward.evaluation.stats.confidence import Estimate, wilson
from nearward.evaluation.synthetic.card import faith_card
from nearward.evaluation.synthetic.fidelity import independent_columns
from nearward.tabular.persistence.artifact import model_hash

PAGES = ("report", "comparison", "sheet", "model_card", "faith_card", "drift", "transport", "events", "adaptation")


@pytest.fixture(scope="session")
def pages(fitted: Any, clinic: Any, ward: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Page -> its file."""
    folder = tmp_path_factory.mktemp("pages")
    files = {name: folder / f"{name}.html" for name in PAGES} | {"model_card": folder / "card" / "card.html"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        _write_risks(files)
        fitted.save(folder / "model")
        origin = Provenance.now(files["report"], model_hash(folder / "model"))
        nw.patient_sheet(fitted, clinic[0][500:501], files["sheet"], permutations=4, provenance=origin)
        nw.model_card(folder / "model").write(folder / "card")
        train, holdout, fresh = (ward(300, seed) for seed in (1, 2, 3))
        faith_card(train=train, holdout=holdout, synthetic=independent_columns(fresh, seed=0), outcome="died").to_html(files["faith_card"])
        write_html(_drift_page(), files["drift"])
        _adaptation().to_html(files["adaptation"])
        write_html(events_page(describe_events(*_events()), "ward"), files["events"])
    return files


def _write_risks(files: dict[str, Path]) -> None:
    rng = np.random.default_rng(0)
    risk = 1 / (1 + np.exp(-rng.normal(-2, 1.2, 1500)))
    frame = pl.DataFrame({"died": rng.random(1500) < risk, "risk": risk, "sex": rng.choice(["F", "<script>M</script>"], 1500).tolist()})
    nw.evaluate_risk(frame, "died", "risk", subgroups=["sex"], resamples=100).to_html(files["report"])
    other = frame.with_columns(other=pl.Series(rng.permutation(risk)))
    nw.compare_risks(other, "died", ["risk", "other"], resamples=100).to_html(files["comparison"])
    sites = frame.select(score=pl.col("risk").log(), hospital=pl.Series(rng.choice(["north", "east", "south"], 1500)))
    report = nw.transport(LogisticRegression(), sites, frame["died"], site="hospital", resamples=100)
    report.to_html(files["transport"])


def _drift_page() -> str:
    """Three runs: without outcomes, calibrated, drifted."""
    runs = [RunFigures("2026-01", 800, wilson(8, 800), (), None)]
    for name, ratio, shift in (("2026-02", 1.0, 0.0), ("2026-03", 1.5, 0.6)):
        values = {"observed_expected": ratio, "calibration_in_the_large": shift, "calibration_slope": 1.2, "auroc": 0.8}
        metrics = {key: Estimate(value, value - 0.1, value + 0.1, 700) for key, value in values.items()}
        moved = ("lactate", "a column with quite a long name") if shift else ()
        runs.append(RunFigures(name, 800, wilson(40 if shift else 9, 800), moved, CalibrationDrift(700, 90, 100, metrics)))
    note = "the calibration slope was off in the first run of this model already: miscalibrated, but no drift"
    return drift_page(runs, 0.01, ["1 column moved against training: lactate"], note, "intercept")


def _adaptation() -> Adaptation:
    steps = (
        AdaptationStep("intercept", True, "the gain is larger than its standard error", 0.4123, 0.3711, 0.0412, 0.0101, "shift +0.61"),
        AdaptationStep("stack weights", False, "the gain is not larger than its standard error", 0.3711, 0.3709, 0.0002, 0.0011),
        AdaptationStep("base learners on both", False, "fewer than 100 local events"),
    )
    groups = tuple(RiskGroup(80, observed, observed * 0.6, observed * 1.02) for observed in (2, 4, 7, 15, 33))
    sizes = {"rows": 400, "events": 61, "patients": 390, "intercept": 0.61, "slope": 1.0}
    words = {"band": "the local patients", "novelty": "the patients of both sites", "missing_columns": ("lactate",)}
    return Adaptation(steps=steps, log_loss_source=0.4123, log_loss_adapted=0.3711, groups=groups, **sizes, **words)


def _events() -> tuple[pl.DataFrame, pl.DataFrame]:
    start, rows = datetime(2024, 1, 1), []
    for subject in range(12):
        rows.append((subject, None, "SEX//F", None, None))
        rows.append((subject, start, "ADMISSION//EW//EMERGENCY ROOM", None, None))
        rows += [(subject, start + timedelta(hours=6 * i), "Lactate", 1.0 + i, "mmol/L" if i else "mg/dL") for i in range(3)]
    labels = {"subject_id": [1, 2, 3], "prediction_time": [start + timedelta(hours=4)] * 3, "boolean_value": [False, True, None]}
    return pl.DataFrame(rows, ["subject_id", "time", "code", "numeric_value", "unit"], orient="row"), pl.DataFrame(labels)
