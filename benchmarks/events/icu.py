"""ICU stays of PhysioNet's challenge of 2012, from events to a risk: five folds by subject.

    .venv/bin/python -m benchmarks.events.icu [--models LightGBM CatBoost RiskClassifier] [--table hand] [--repeats 1]

``EventFeatures`` with default settings are fitted within each fold; ``--table hand`` is the table made by hand beside them. Out-of-fold
risks are written to out/, and the last model is compared with the others, paired. −1 means unknown in these data.
Intervals resample stays.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold

import nearward as nw
from benchmarks.common.baselines import baselines
from benchmarks.common.icu import EVENTS, icu_cohort
from benchmarks.common.paths import OUT
from nearward.tabular.events.reading import Events
from nearward.tabular.typing import Floats, Ints

_FOLDS = 5
_RESAMPLES = 500


def icu_events() -> tuple[Events, pl.DataFrame]:
    """Return the events, and the labels by subject."""
    return nw.read_events(EVENTS), pl.read_parquet(EVENTS / "labels" / "in_hospital_death.parquet").sort("subject_id")


def min_sensitivity_ppv(outcome: Ints, risk: Floats) -> float:
    """Return the score of the challenge: the smaller of sensitivity and PPV, at the threshold where it is greatest."""
    hits = np.cumsum(outcome[np.argsort(-risk, kind="stable")])
    alerts = np.arange(1, len(risk) + 1)
    return float(np.minimum(hits / outcome.sum(), hits / alerts).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["LightGBM"])
    parser.add_argument("--table", choices=["events", "hand"], default="events")
    parser.add_argument("--repeats", type=int, default=1, help="different splits into folds")
    args = parser.parse_args()
    events, labels = icu_events()
    outcome = labels.get_column("boolean_value").cast(pl.Int64).to_numpy()
    risks = {name: np.zeros((args.repeats, len(outcome))) for name in args.models}
    seconds: list[float] = []
    for repeat in range(args.repeats):
        for train, test in StratifiedKFold(_FOLDS, shuffle=True, random_state=repeat).split(outcome, outcome):
            begin = time.perf_counter()
            if args.table == "hand":
                table = icu_cohort().features
                fitted, new = table[train.tolist()], table[test.tolist()]
            else:
                features = nw.EventFeatures(missing=[-1]).fit(events, labels[train.tolist()])
                fitted, new = (features.transform(events, labels[rows.tolist()]) for rows in (train, test))
            seconds.append(time.perf_counter() - begin)
            for name in args.models:
                risks[name][repeat, test] = predict(name, fitted, outcome[train], new)
    print(f"{fitted.width} columns; {np.mean(seconds):.1f} s a fold for the features")
    OUT.mkdir(exist_ok=True)
    for name, risk in risks.items():
        np.save(OUT / f"events-{args.table}-{name}.npy", risk)
        print(f"{name:20s} " + "  ".join(measure(outcome, risk)), flush=True)
        if name != args.models[-1]:
            print(f"{args.models[-1]} less {name}: " + "  ".join(measure(outcome, risks[args.models[-1]], risk)), flush=True)


def predict(name: str, train: pl.DataFrame, outcome: Ints, test: pl.DataFrame) -> Any:
    """Return the risks of the test rows (q,)."""
    if name == "RiskClassifier":
        return nw.RiskClassifier(random_state=0).fit(train, outcome).predict_frame(test).get_column("risk").to_numpy()
    return baselines()[name](train, outcome, test)


def measure(outcome: Ints, risks: Floats, less: Floats | None = None) -> list[str]:
    """Return AUPRC, AUROC and min(sensitivity, PPV), the mean over repeats with its 95 % interval; or the paired differences."""
    rng = np.random.default_rng(0)
    metrics = {"AUPRC": average_precision_score, "AUROC": roc_auc_score, "min(Se, PPV)": min_sensitivity_ppv}
    resamples = [rng.integers(0, len(outcome), len(outcome)) for _ in range(_RESAMPLES)]
    texts = []

    def mean(metric: Any, rows: Ints | slice) -> float:
        values = [metric(outcome[rows], risk[rows]) for risk in risks]
        others = [0.0] if less is None else [metric(outcome[rows], risk[rows]) for risk in less]
        return float(np.mean(values) - np.mean(others))

    for name, metric in metrics.items():
        value = mean(metric, slice(None))
        low, high = np.quantile([mean(metric, rows) for rows in resamples], [0.025, 0.975])
        texts.append(f"{name} {value:.3f} ({low:.3f} to {high:.3f})")
    return texts


if __name__ == "__main__":
    main()
