"""Parts of the rare-outcome toolbox that need protocols of their own: windows over repeated visits, few columns, sources.

    .venv/bin/python -m benchmarks.rare.protocols windows|columns|sources [--data DIR]

Each writes its part of docs/benchmarks/rare-outcomes.md.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier

import nearward as nw
from benchmarks.common.cohorts import patients_of
from benchmarks.common.markdown import markdown_rows, replace_part, signed
from benchmarks.common.paths import DATA
from benchmarks.rare.training_set import Rows
from nearward.datasets import read_cohort
from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.risk.resampled_metrics import bootstrap_metrics
from nearward.evaluation.stats.confidence import Estimate
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.ensemble.cross_fitting import EncodedClassifier
from nearward.tabular.typing import Floats

_PATIENTS, _FOLDS = 15_000, 5
_VISITS = ["time_in_hospital", "num_lab_procedures", "num_procedures", "num_medications", "number_diagnoses", "number_inpatient"]
_MOST_ROWS = 12_000
_WRONG = (2, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trial", choices=("windows", "columns", "sources"))
    parser.add_argument("--data", type=Path, default=DATA)
    args = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        body = {"windows": windows, "columns": columns, "sources": sources}[args.trial](args.data)
    print(body)
    replace_part(f"rare-{args.trial}", body)


def windows(data: Path) -> str:
    """Score readmission after repeated stays, without and with window features of earlier stays; then the speed."""
    table = pl.read_parquet(data / "diabetes130.parquet").rename({"encounter_id": "stay"})  # ids rise with time
    patients = table["patient_nbr"].unique().sort().sample(_PATIENTS, seed=0, shuffle=True)
    table = table.filter(pl.col("patient_nbr").is_in(patients.implode()))
    numbers = table.select("patient_nbr", "stay", *_VISITS)
    more = nw.windows(table.select("patient_nbr", "stay"), numbers, patient="patient_nbr", time="stay")
    window_columns = more.drop("patient_nbr", "stay", *(f"{name}: since" for name in _VISITS))  # differences of ids are no lengths of time
    features = table.drop("patient_nbr", "stay", "readmitted", "derived_died_in_hospital")
    outcome = (table["readmitted"] == "<30").to_numpy().astype(np.int64)
    group = table["patient_nbr"].rank("dense").to_numpy().astype(np.int64) - 1
    risks = {
        "row": out_of_fold(features, outcome, group),
        "with": out_of_fold(pl.concat([features, window_columns], how="horizontal"), outcome, group),
    }
    repeated = (window_columns[f"{_VISITS[0]}: count"] > 0).to_numpy()
    rows = []
    for what, chosen in (("all stays", np.ones(len(outcome), dtype=bool)), ("stays after another", repeated)):
        subset = {name: risk[chosen] for name, risk in risks.items()}
        rows.append((what, int(chosen.sum()), int(outcome[chosen].sum()), *pair(outcome[chosen], subset, group[chosen], "with", "row")))
    shown = markdown_rows(["diabetes130, readmission", "stays", "events", "AUPRC of the row", "with windows", "gained (95 %)"], rows)
    rng = np.random.default_rng(0)
    size, moments = 1_000_000, 100_000
    known = pl.DataFrame({"patient": rng.integers(0, 10_000, size), "at": rng.integers(0, 43_200, size), "pulse": rng.normal(size=size)})
    moments_frame = pl.DataFrame({"patient": rng.integers(0, 10_000, moments), "at": rng.integers(0, 43_200, moments)})
    began = time.perf_counter()
    nw.windows(moments_frame, known, patient="patient", time="at", spans=[None, 360, 1440])
    spent = time.perf_counter() - began
    return f"{shown}\n\nSimulated vitals: windows of three spans at {moments:,} moments over {size:,} measurements in {spent:.1f} s."


def out_of_fold(features: pl.DataFrame, outcome: Rows, group: Rows) -> Floats:
    """Return out-of-fold risks of gradient boosting, grouped by patient."""
    fold = assign_folds(outcome, group, _FOLDS, 0)
    risk = np.empty(len(outcome))
    for f in range(_FOLDS):
        seen, test = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        model = EncodedClassifier(HistGradientBoostingClassifier(random_state=0)).fit(features[seen], outcome[seen])
        risk[test] = model.predict_proba(features[test])[:, 1]
    return risk


def pair(outcome: Rows, risks: dict[str, Floats], group: Rows, first: str, other: str) -> tuple[str, str, str]:
    """Return the AUPRC of both, and the first minus the other."""
    patient = np.unique(group, return_inverse=True)[1]
    measured = bootstrap_metrics([RiskSample(outcome.astype(float), risks, patient)], OperatingPoint(0.05, float(outcome.mean())), 500, 0)
    difference = measured.difference(first, other)["auprc"]
    assert isinstance(difference, Estimate)
    return (
        *(f"{measured.results(name)['auprc']}" for name in (other, first)),
        f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})",
    )


def columns(data: Path) -> str:
    """Select columns on half of the patients, and measure the loss on the other half."""
    rows, each = [], []
    for name in ("brfss2015_diabetes", "support2", "diabetes130", "polish_bankruptcy_y1"):
        cohort = read_cohort(data / f"{name}.parquet")
        group = patients_of(cohort)
        half = assign_folds(cohort.outcome, group, 2, 0)
        chooses, judges = (np.flatnonzero(half == side)[:_MOST_ROWS] for side in (0, 1))
        for wrong in _WRONG:
            began = time.process_time()
            stable = nw.StableColumns(wrong=wrong).fit(cohort.features[chooses], cohort.outcome[chooses], groups=group[chooses])
            spent = time.process_time() - began
            frame = cohort.features[judges].with_columns(
                pl.Series("(outcome)", cohort.outcome[judges]), pl.Series("(patient)", group[judges])
            )
            costs = nw.column_costs(frame, "(outcome)", stable.columns_, "(patient)")
            lost = f"{costs.lost.value:+.3f} ({costs.lost.low:+.3f} to {costs.lost.high:+.3f})"
            times = f"{1000 * costs.seconds_all.value:.0f} → {1000 * costs.seconds_selected.value:.0f} ms"
            selected = f"{len(stable.columns_)} of {cohort.features.width}"
            rows.append((name, wrong, selected, f"{spent:.0f} s", str(costs.all_columns), str(costs.selected), lost, times))
            if wrong == _WRONG[0]:
                for column, value, low, high, gained in costs.table.iter_rows():
                    each.append((name, column, signed((value, low, high)), f"{1000 * gained:+.1f} ms"))
    names = ["cohort", "`wrong`", "kept", "chosen in", "AUPRC, all", "AUPRC, kept", "lost (95 %)", "processor time, 1,000 rows"]
    one_by_one = markdown_rows(["cohort", "dropped as well", "AUPRC lost (95 %)", "gained for 1,000 rows"], each)
    return f"{markdown_rows(names, rows)}\n\n{one_by_one}"


def sources(data: Path) -> str:
    """Measure leakage through columns that name a row's source, in unchanged cohorts."""
    rows = []
    for name, site in (("thyroid0387", "referral source"), ("diabetes130", "payer_code"), ("diabetes130", "medical_specialty")):
        cohort = read_cohort(data / f"{name}.parquet")
        frame = cohort.features.with_columns(pl.Series("(outcome)", cohort.outcome))
        if cohort.groups is not None:
            frame = frame.with_columns(pl.Series("(patient)", cohort.groups))
        began = time.process_time()
        leak = nw.source_leak(frame, "(outcome)", site, None if cohort.groups is None else "(patient)")
        spent = time.process_time() - began
        rows.append(
            (name, site, leak.site_auroc, leak.outcome_auroc, ", ".join(leak.columns), "yes" if leak.leaks else "no", f"{spent:.0f} s")
        )
    return markdown_rows(["cohort", "source", "told by the features", "tracks the outcome", "most by", "warns", "time"], rows)


if __name__ == "__main__":
    main()
