"""Open-set detection (UnknownGate) beside three plain detectors: one phenotype or site left out at a time.

    .venv/bin/python -m benchmarks.rare.open_set [--data DIR] [--seeds 3] [--publish]

Each kind (a diagnosis, a disease group, an admission source) with enough rows is left out of training once. Half of the patients are for
training, half for testing. Every detector reads the same encoded columns and sets its threshold on the same calibration patients, at 5 %
false alarms. Results are cached in out/rare. --publish writes benchmarks/results/rare_open_set.csv, the table of
docs/benchmarks/rare-outcomes.md and the picture.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from benchmarks.common.markdown import markdown, replace_part
from benchmarks.common.paths import DATA, PICTURES, RESULTS
from benchmarks.common.plots import save_svg
from benchmarks.rare.training_set import CACHE
from nearward.evaluation.stats.confidence import wilson
from nearward.tabular.data.atomic_files import replacing
from nearward.tabular.novelty.open_set import UnknownGate

ALARMS, _MOST, _ROWS = 0.05, 6, 6_000
# cohort -> column of kinds; for thyroid0387 the diagnoses' first letter, as they are written in the source
KINDS = {"thyroid0387": "diagnoses", "support2": "dzgroup", "diabetes130": "admission_source_id"}
RPM, MAHALANOBIS, NEIGHBOURS, FOREST = "reciprocal points", "Mahalanobis", "10 nearest", "isolation forest"
EITHER = "points or nearest"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", default=",".join(KINDS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    CACHE.mkdir(parents=True, exist_ok=True)
    rows = [row for name in args.only.split(",") for seed in range(args.seeds) for row in judged(args.data, name, seed)]
    raw = pl.DataFrame(rows)
    table = summary(raw)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=60):
        print(table)
    if args.publish:
        raw.write_csv(RESULTS / "rare_open_set.csv", float_precision=5)
        plot(raw, PICTURES / "rare-unknown.svg")
        replace_part("rare unknown", f"![Unknown kinds told from known ones](../pictures/rare-unknown.svg)\n\n{markdown(table)}")


def judged(data: Path, name: str, seed: int) -> list[dict[str, object]]:
    """Return the metrics of every detector for every kind left out; cached in out/rare."""
    path = CACHE / f"unknown.{name}.{seed}.json"
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(list(out_of_fold(data, name, seed))))
    results: list[dict[str, object]] = json.loads(path.read_text())
    return results


def read(data: Path, name: str) -> tuple[pl.DataFrame, pl.Series, np.ndarray]:
    """Return the features without the column of kinds, the kinds, and the patients."""
    about, frame = json.loads((data / f"{name}.json").read_text()), pl.read_parquet(data / f"{name}.parquet")
    kind = frame[KINDS[name]].cast(pl.String)
    if name == "thyroid0387":
        kind = kind.str.slice(0, 1)
    group = about["group_column"]
    patient = np.arange(frame.height) if group is None else frame[group].rank("dense").to_numpy()
    dropped = {KINDS[name], about["target"], *about["id_columns"], *about["leak_columns"], *([group] if group else [])}
    dropped |= {"dzclass"} if name == "support2" else set()  # a coarser name of the group
    return frame.drop(dropped), kind, patient


def out_of_fold(data: Path, name: str, seed: int) -> Iterator[dict[str, object]]:
    frame, kinds_of_rows, patient = read(data, name)
    count = kinds_of_rows.drop_nulls().value_counts(sort=True)
    kinds = count.filter(pl.col("count") >= 100)[:_MOST][kinds_of_rows.name].to_list()
    rng = np.random.default_rng(seed)
    within = np.flatnonzero(kinds_of_rows.is_in(kinds).to_numpy())
    rows = np.sort(rng.permutation(within)[:_ROWS])
    frame, label, patient = frame[rows], kinds_of_rows.to_numpy()[rows].astype(str), np.unique(patient[rows], return_inverse=True)[1]
    in_training = rng.permutation(patient.max() + 1)[patient] % 2 == 0
    for kind_out in kinds:
        learn, ask = in_training & (label != kind_out), ~in_training
        unusual = label[ask] == kind_out
        if unusual.sum() < 20:
            continue
        began = time.process_time()
        gate = UnknownGate(false_alarms=ALARMS, random_state=seed).fit(frame.filter(learn), label[learn], groups=patient[learn])
        seconds = time.process_time() - began
        for method, (usual, score) in _scores(gate, frame, learn, ask, patient, seed).items():
            alarm = score > np.quantile(usual, 1 - ALARMS, method="higher")
            detected = wilson(int(alarm[unusual].sum()), int(unusual.sum()))
            yield {
                "cohort": name,
                "left out": kind_out,
                "seed": seed,
                "method": method,
                "unusual": int(unusual.sum()),
                "auroc": float(roc_auc_score(unusual, score)),
                "found": detected.value,
                "found_low": detected.low,
                "found_high": detected.high,
                "false_alarms": float(alarm[~unusual].mean()),
                "seconds": seconds if method == RPM else 0.0,
            }


def _scores(
    gate: UnknownGate, frame: pl.DataFrame, learn: np.ndarray, ask: np.ndarray, patient: np.ndarray, seed: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the scores of calibration and test rows, larger for more unusual ones; all detectors have the gate's training rows."""
    part = patient[learn]
    part = np.unique(part, return_inverse=True)[1]
    calibration = np.random.default_rng(seed).permutation(part.max() + 1)[part] % 4 == 0  # as the gate splits its patients
    x = gate.fitted_.encoder.transform(frame)
    known, usual, new = x[learn][~calibration], x[learn][calibration], x[ask]
    middle, spread = known.mean(axis=0), np.cov(known.T) + 0.1 * np.eye(known.shape[1])
    white = np.linalg.inv(np.linalg.cholesky(spread)).T
    near = NearestNeighbors(n_neighbors=10).fit(known)
    forest = IsolationForest(random_state=seed).fit(known)
    detect = {
        MAHALANOBIS: lambda rows: (((rows - middle) @ white) ** 2).sum(axis=1),
        NEIGHBOURS: lambda rows: near.kneighbors(rows)[0].mean(axis=1),
        FOREST: lambda rows: -forest.score_samples(rows),
    }
    own = (-gate.fitted_.calibration_scores, -gate.fitted_.points.distances(new).max(axis=1))
    scores = {RPM: own} | {name: (score(usual), score(new)) for name, score in detect.items()}
    return scores | {EITHER: _either(scores[RPM], scores[NEIGHBOURS])}


def _either(*parts: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Combine detectors: score by the smallest share of calibration rows that are at least as unusual."""
    shares = []
    for usual, new in parts:
        ranked = np.sort(usual)
        shares.append([1 - np.searchsorted(ranked, score) / (len(usual) + 1) for score in (usual, new)])
    return tuple(-np.min([share[side] for share in shares], axis=0) for side in (0, 1))


def summary(raw: pl.DataFrame) -> pl.DataFrame:
    """Return means over seeds and kinds left out, and the number of kinds on which each detector is best."""
    by_kind = raw.group_by("cohort", "left out", "method", maintain_order=True).agg(pl.col("auroc", "found", "false_alarms").mean())
    best = by_kind.filter(pl.col("method") != EITHER).filter(pl.col("auroc") == pl.col("auroc").max().over("cohort", "left out"))
    rows = []
    for (cohort, method), part in by_kind.group_by("cohort", "method", maintain_order=True):
        won = best.filter((pl.col("cohort") == cohort) & (pl.col("method") == method)).height
        figures = {name: float(np.mean(part[name].to_numpy())) for name in ("auroc", "found", "false_alarms")}
        rows.append(
            {"cohort": cohort, "detector": method, "AUROC": figures["auroc"], "found at 5 % false alarms": figures["found"]}
            | {"false alarms": figures["false_alarms"], "best on": "" if method == EITHER else f"{won} of {part.height}"}
        )
    return pl.DataFrame(rows)


def plot(raw: pl.DataFrame, path: Path) -> None:
    """Plot a panel per cohort: AUROC of every kind left out, by detector."""
    cohorts, methods = list(dict.fromkeys(raw["cohort"])), [RPM, MAHALANOBIS, NEIGHBOURS, FOREST, EITHER]
    shown, axes = plt.subplots(1, len(cohorts), figsize=(3.6 * len(cohorts), 3.2), layout="constrained", squeeze=False)
    for axis, cohort in zip(axes[0], cohorts, strict=True):
        results = raw.filter(pl.col("cohort") == cohort)
        kinds = list(dict.fromkeys(results["left out"]))
        for position, method in enumerate(methods):
            part = results.filter(pl.col("method") == method).group_by("left out").agg(pl.col("auroc").mean())
            axis.plot(
                part["auroc"],
                [kinds.index(k) + 0.12 * (position - 2) for k in part["left out"]],
                "os^Dv"[position],
                label=method,
                markersize=5,
            )
        axis.axvline(0.5, color="black", linewidth=0.8, linestyle=":")
        axis.set(title=cohort, yticks=range(len(kinds)), yticklabels=[kind[:22] for kind in kinds], xlabel="AUROC, left out against known")
    axes[0][0].legend(frameon=False, fontsize=7)
    save_svg(shown, path)


if __name__ == "__main__":
    main()
