"""More than two classes: the diagnoses of thyroid0387 by one model of all, by one binary model a class, and by logistic regression.

    .venv/bin/python -m benchmarks.risk.multiclass fit|binary|head [--data DIR] [--seeds 1] [--only CLASS,CLASS] [--publish]

The first letter of a diagnosis gives its class, as the file's own notes group them. Two thirds of the patients are learned from, a
third is asked about. ``fit``: models of all classes; ``binary``: one binary RiskClassifier a class, class by class (--only: some);
``head``: the encoder alone, a plain head beside the simplex head. What was said lies in out/classes and is not asked again. --publish
writes docs/benchmarks.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

import nearward as nw
from benchmarks.common.baselines import stacked, standardised
from benchmarks.common.cohorts import DATA
from benchmarks.common.markdown import markdown, replace_part
from benchmarks.common.paired_metrics import Ranking, paired_intervals
from nearward.datasets import read_cohort
from nearward.retrieval.encoders.aware import embed
from nearward.retrieval.encoders.training import train_encoder
from nearward.retrieval.neighbors.index import Shard
from nearward.retrieval.neighbors.multiclass import log_shares
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import split_classes
from nearward.tabular.preprocessing.table_encoder import TableEncoder

KEPT = Path(__file__).resolve().parents[1] / "out" / "classes"
GROUPS = {
    "none": "-", "hyperthyroid": "ABCD", "hypothyroid": "EFGH", "binding protein": "IJ", "non-thyroidal": "K", "replacement": "LMN",
    "antithyroid": "OPQ", "miscellaneous": "RST",
}  # fmt: skip
OURS, RIVAL, VOTE = "one model of all classes", "one binary model a class", "our vote alone"
BOOSTING, LOGISTIC = "gradient boosting of all classes", "multinomial logistic regression"
_RESAMPLES, _NEIGHBOURS = 1000, 60
Rows = NDArray[Any]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("part", choices=["fit", "binary", "head"])
    asked.add_argument("--data", type=Path, default=DATA)
    asked.add_argument("--seeds", type=int, default=1)
    asked.add_argument("--only", default=",".join(GROUPS), help="classes that get a binary model, with commas")
    asked.add_argument("--publish", action="store_true")
    told = asked.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    frame, code, names = diagnoses(told.data)
    if told.part == "binary":
        table = binaries(frame, code, names, told.seeds, told.only.split(","))
    else:
        table = (models if told.part == "fit" else heads)(frame, code, names, told.seeds)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220, fmt_str_lengths=60):
        print(table)
    if told.publish:
        replace_part(f"classes {told.part}", markdown(table))


def diagnoses(data: Path) -> tuple[pl.DataFrame, Rows, list[str]]:
    """Features, class numbers and class names, the commonest first."""
    features = read_cohort(data / "thyroid0387.parquet").features
    raw = pl.read_parquet(data / "thyroid0387.parquet", columns=["diagnoses"])["diagnoses"]
    kind = raw.str.slice(0, 1).replace_strict({letter: group for group, letters in GROUPS.items() for letter in letters})
    names = kind.value_counts(sort=True)[kind.name].to_list()
    return features, kind.replace_strict(names, list(range(len(names))), return_dtype=pl.Int64).to_numpy(), names


def split(code: Rows, seed: int) -> tuple[Rows, Rows]:
    """Rows to learn from, and a third to ask about."""
    asked = split_classes(code, np.arange(len(code)), 3, seed) == 0
    return np.flatnonzero(~asked), np.flatnonzero(asked)


def kept(name: str, make: Callable[[], dict[str, Rows]]) -> dict[str, Rows]:
    """Return what was made before, or make it and note the processor time."""
    path = KEPT / f"{name}.npz"
    if not path.exists():
        began = time.process_time()
        made = make()
        np.savez(path, **made, seconds=time.process_time() - began)
        print(f"{name}: {time.process_time() - began:.0f} s", flush=True)
    return dict(np.load(path))


def models(frame: pl.DataFrame, code: Rows, names: list[str], seeds: int) -> pl.DataFrame:
    """Shares of the asked rows by every model, and its figures."""
    runs: list[tuple[Rows, dict[str, Rows], dict[str, float]]] = []
    for seed in range(seeds):
        train, test = split(code, seed)
        x, y, x_test = frame[train], code[train], frame[test]
        ours = kept(f"ours.{seed}", lambda x=x, y=y, x_test=x_test, seed=seed: _ours(x, y, x_test, seed))
        linear = kept(f"logistic.{seed}", lambda x=x, y=y, x_test=x_test: {"share": _logistic(x, y, x_test)})
        boosted = kept(f"boosting.{seed}", lambda x=x, y=y, x_test=x_test, seed=seed: {"share": _boosting(x, y, x_test, seed)})
        shares = {OURS: ours["share"], BOOSTING: boosted["share"], LOGISTIC: linear["share"], VOTE: ours["vote"]}
        seconds = {OURS: float(ours["seconds"]), BOOSTING: float(boosted["seconds"]), LOGISTIC: float(linear["seconds"])}
        each = [KEPT / f"binary.{j}.{seed}.npz" for j in range(len(names))]
        if all(path.exists() for path in each):
            risk = np.column_stack([np.load(path)["risk"] for path in each])
            shares[RIVAL] = risk / risk.sum(axis=1, keepdims=True)
            seconds[RIVAL] = sum(float(np.load(path)["seconds"]) for path in each)
        runs.append((code[test], shares, seconds))
    rows = [_row(name, runs, names) for name in runs[0][1]]
    return pl.DataFrame(rows)


def binaries(frame: pl.DataFrame, code: Rows, names: list[str], seeds: int, only: list[str]) -> pl.DataFrame:
    """Class by class, the share that the model of all classes gives beside the risk of a binary model of that class."""
    rows = []
    for j, name in enumerate(names):
        if name not in only:
            continue
        truths, ours, theirs, seconds = [], [], [], []
        for seed in range(seeds):
            train, test = split(code, seed)
            x, event, x_test = frame[train], code[train] == j, frame[test]
            asked = x, event, x_test, seed
            binary = kept(f"binary.{j}.{seed}", lambda asked=asked: {"risk": _binary(*asked)})
            truths.append((code[test] == j).astype(int))
            ours.append(np.load(KEPT / f"ours.{seed}.npz")["share"][:, j])
            theirs.append(binary["risk"])
            seconds.append(float(binary["seconds"]))
        gain = paired_intervals(truths, [np.arange(len(y)) for y in truths], ours, {name: theirs})[name]
        row = {"class": name, "rows asked": int(truths[0].sum())}
        for label, said in ((OURS, ours), (RIVAL, theirs)):
            row[f"AUPRC, {label}"] = float(np.mean([average_precision_score(y, risk) for y, risk in zip(truths, said, strict=True)]))
        row |= {"difference (95 %)": f"{gain[0]:+.3f} ({gain[1]:+.3f} to {gain[2]:+.3f})", "processor s": f"{np.mean(seconds):.0f}"}
        rows.append(row)
    return pl.DataFrame(rows)


def _ours(x: pl.DataFrame, y: Rows, x_test: pl.DataFrame, seed: int) -> dict[str, Rows]:
    model = nw.RiskClassifier(seed=seed).fit(x, y)
    told = model.predict_frame(x_test)
    print(model.summary_["retrieval"], model.summary_["out_of_fold"]["vote_log_loss"], flush=True)
    return {part: told.select(f"{name}: {j}" for j in model.classes_).to_numpy() for part, name in (("share", "risk"), ("vote", "vote"))}


def _binary(x: pl.DataFrame, event: Rows, x_test: pl.DataFrame, seed: int) -> Rows:
    return np.asarray(nw.RiskClassifier(seed=seed).fit(x, event).predict_proba(x_test)[:, 1])


def _logistic(x: pl.DataFrame, y: Rows, x_test: pl.DataFrame) -> Rows:
    values, numbers, text = stacked(x)
    model = make_pipeline(standardised(numbers, text), LogisticRegression(max_iter=2000)).fit(values, y)
    return np.asarray(model.predict_proba(stacked(x_test)[0]))


def _boosting(x: pl.DataFrame, y: Rows, x_test: pl.DataFrame, seed: int) -> Rows:
    values, numbers, text = stacked(x)
    order = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    prepare = make_column_transformer((order, text), ("passthrough", numbers))
    model = make_pipeline(prepare, HistGradientBoostingClassifier(learning_rate=0.05, max_iter=200, random_state=seed)).fit(values, y)
    return np.asarray(model.predict_proba(stacked(x_test)[0]))


def _row(name: str, runs: list[tuple[Rows, dict[str, Rows], dict[str, float]]], names: list[str]) -> dict[str, object]:
    """Figures of one model, means over the seeds, and how far it is from ours with paired intervals (patients drawn, the same for all)."""
    each = np.mean([[average_precision_score(y == j, said[name][:, j]) for j in range(len(names))] for y, said, _ in runs], axis=0)
    row: dict[str, object] = {"model": name, "macro AUPRC": float(each.mean())}
    row["log loss"] = float(np.mean([_loss(y, said[name]).mean() for y, said, _ in runs]))
    row |= {"ours less it: AUPRC (95 %)": "", "log loss (95 %)": ""}
    row["worst ECE of a class"] = float(max(_ece(runs, name, j) for j in range(len(names))))
    if name != OURS:
        row["ours less it: AUPRC (95 %)"], row["log loss (95 %)"] = _gaps(name, runs, len(names))
    row["processor s"] = f"{np.mean([s.get(name, np.nan) for *_, s in runs]):.0f}" if name in runs[0][2] else ""
    return row | {f"{label} ({int((runs[0][0] == j).sum())})": float(each[j]) for j, label in enumerate(names)}


def _loss(y: Rows, share: Rows) -> Rows:
    mixed = 0.98 * share + 0.02 * np.bincount(y, minlength=share.shape[1]) / len(y) if (share == 0).any() else share  # a vote may be 0
    return -np.log(mixed[np.arange(len(y)), y])


def _ece(runs: list[tuple[Rows, dict[str, Rows], dict[str, float]]], name: str, j: int) -> float:
    found = []
    for y, said, _ in runs:
        risk = said[name][:, j]
        place = np.minimum((risk * 10).astype(int), 9)
        found.append(np.abs(np.bincount(place, weights=(y == j) - risk, minlength=10)).sum() / len(y))
    return float(np.mean(found))


def _gaps(name: str, runs: list[tuple[Rows, dict[str, Rows], dict[str, float]]], classes: int) -> tuple[str, str]:
    draw = np.random.default_rng(0)
    ranks = [[(Ranking(y == j, s[OURS][:, j]), Ranking(y == j, s[name][:, j])) for j in range(classes)] for y, s, _ in runs]
    losses = [_loss(y, s[OURS]) - _loss(y, s[name]) for y, s, _ in runs]
    gained = []
    for b in range(_RESAMPLES + 1):
        weights = [np.bincount(draw.integers(0, len(y), len(y)), minlength=len(y)).astype(float) for y, *_ in runs]
        if b == 0:
            weights = [np.ones(len(y)) for y, *_ in runs]
        gain = np.mean([[one.auprc(w) - other.auprc(w) for one, other in pairs] for pairs, w in zip(ranks, weights, strict=True)])
        gained.append([gain, np.mean([np.average(loss, weights=w) for loss, w in zip(losses, weights, strict=True)])])
    ends = np.quantile(gained[1:], [0.025, 0.975], axis=0)
    auprc, loss = (f"{gained[0][k]:+.3f} ({ends[0][k]:+.3f} to {ends[1][k]:+.3f})" for k in (0, 1))
    return auprc, loss


def heads(frame: pl.DataFrame, code: Rows, names: list[str], seeds: int) -> pl.DataFrame:
    """One encoder a seed, its head and the vote of its nearest 60 among rows that it had not seen: plain head and simplex head."""
    rows = []
    for option in ("plain", "simplex"):
        found = [kept(f"head.{option}.{seed}", lambda seed=seed, option=option: _head(frame, code, option, seed)) for seed in range(seeds)]
        for part in ("head", "vote"):
            each = np.mean([[average_precision_score(one["y"] == j, one[part][:, j]) for j in range(len(names))] for one in found], axis=0)
            rows.append({"head": option, "by": part, "macro AUPRC": float(each.mean())} | dict(zip(names, each.tolist(), strict=True)))
    return pl.DataFrame(rows)


def _head(frame: pl.DataFrame, code: Rows, option: str, seed: int) -> dict[str, Rows]:
    train, test = split(code, seed)
    schema = Schema.infer(frame[train])
    encoding = TableEncoder.fit(schema, schema.conform(frame[train]))
    x, x_test = (encoding.dense(encoding.numbers(schema.conform(frame[rows]))) for rows in (train, test))
    found = split_classes(code[train], np.arange(len(train)), 3, seed) == 0
    encoder = train_encoder(x[~found], code[train][~found], np.flatnonzero(~found), nw.EncoderConfig(head=option), seed)
    place, logit = embed(encoder, x_test)
    squared, near = Shard(embed(encoder, x[found])[0].astype(np.float32), np.flatnonzero(found)).search(place, _NEIGHBOURS)
    weight = np.exp(-(squared - squared[:, :1]) / (2 * encoder.temperature))
    classes = int(code.max()) + 1
    vote = np.stack([(weight * (code[train][near] == j)).sum(axis=1) for j in range(classes)], axis=1) / weight.sum(axis=1, keepdims=True)
    return {"head": np.exp(log_shares(logit, classes)), "vote": vote, "y": code[test]}


if __name__ == "__main__":
    main()
