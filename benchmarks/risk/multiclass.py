"""More than two classes: the diagnoses of thyroid0387 by one multiclass model, by one binary model per class, and by baselines.

    .venv/bin/python -m benchmarks.risk.multiclass fit|binary|head [--data DIR] [--seeds 1] [--only CLASS,CLASS] [--publish]

The first letter of a diagnosis gives its class, as the file's own notes group them. Two thirds of the patients are training rows, a third
test rows. ``fit``: multiclass models; ``binary``: one binary RiskClassifier per class (--only: for some classes); ``head``: the encoder
alone, a plain head beside the simplex head. Predictions are cached in out/multiclass. --publish writes docs/benchmarks.
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
from benchmarks.common.markdown import markdown, replace_part, signed
from benchmarks.common.paired_metrics import Ranking, paired_intervals
from benchmarks.common.paths import DATA, OUT, cached_arrays
from nearward.datasets import read_cohort
from nearward.retrieval.encoders.aware import embed
from nearward.retrieval.encoders.training import train_encoder
from nearward.retrieval.neighbors.index import Shard
from nearward.retrieval.neighbors.multiclass import class_log_probabilities
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import split_classes
from nearward.tabular.preprocessing.table_encoder import TableEncoder

CACHE = OUT / "multiclass"
GROUPS = {
    "none": "-", "hyperthyroid": "ABCD", "hypothyroid": "EFGH", "binding protein": "IJ", "non-thyroidal": "K", "replacement": "LMN",
    "antithyroid": "OPQ", "miscellaneous": "RST",
}  # fmt: skip
OURS, RIVAL, VOTE = "one model of all classes", "one binary model a class", "our vote alone"
BOOSTING, LOGISTIC = "gradient boosting of all classes", "multinomial logistic regression"
_RESAMPLES, _NEIGHBOURS = 1000, 60
Rows = NDArray[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["fit", "binary", "head"])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default=",".join(GROUPS), help="classes that get a binary model, with commas")
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    frame, class_index, names = diagnoses(args.data)
    if args.part == "binary":
        table = binaries(frame, class_index, names, args.seeds, args.only.split(","))
    else:
        table = (models if args.part == "fit" else heads)(frame, class_index, names, args.seeds)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220, fmt_str_lengths=60):
        print(table)
    if args.publish:
        replace_part(f"classes {args.part}", markdown(table))


def diagnoses(data: Path) -> tuple[pl.DataFrame, Rows, list[str]]:
    """Return features, class numbers and class names, by falling frequency."""
    features = read_cohort(data / "thyroid0387.parquet").features
    raw = pl.read_parquet(data / "thyroid0387.parquet", columns=["diagnoses"])["diagnoses"]
    initial = raw.str.slice(0, 1).replace_strict({letter: group for group, letters in GROUPS.items() for letter in letters})
    names = initial.value_counts(sort=True)[initial.name].to_list()
    return features, initial.replace_strict(names, list(range(len(names))), return_dtype=pl.Int64).to_numpy(), names


def split(class_index: Rows, seed: int) -> tuple[Rows, Rows]:
    """Return training rows and test rows, a third of all."""
    test = split_classes(class_index, np.arange(len(class_index)), 3, seed) == 0
    return np.flatnonzero(~test), np.flatnonzero(test)


def _timed(name: str, compute: Callable[[], dict[str, Rows]]) -> dict[str, Rows]:
    """Return cached arrays and the processor seconds of computing them."""

    def timed() -> dict[str, Rows]:
        began = time.process_time()
        return compute() | {"seconds": np.array(time.process_time() - began)}

    return cached_arrays(CACHE / f"{name}.npz", timed)


def models(frame: pl.DataFrame, class_index: Rows, names: list[str], seeds: int) -> pl.DataFrame:
    """Return the metrics of every multiclass model on the test rows."""
    runs: list[tuple[Rows, dict[str, Rows], dict[str, float]]] = []
    for seed in range(seeds):
        train, test = split(class_index, seed)
        x, y, x_test = frame[train], class_index[train], frame[test]
        ours = _timed(f"ours.{seed}", lambda x=x, y=y, x_test=x_test, seed=seed: _ours(x, y, x_test, seed))
        linear = _timed(f"logistic.{seed}", lambda x=x, y=y, x_test=x_test: {"share": _logistic(x, y, x_test)})
        boosted = _timed(f"boosting.{seed}", lambda x=x, y=y, x_test=x_test, seed=seed: {"share": _boosting(x, y, x_test, seed)})
        shares = {OURS: ours["share"], BOOSTING: boosted["share"], LOGISTIC: linear["share"], VOTE: ours["vote"]}
        seconds = {OURS: float(ours["seconds"]), BOOSTING: float(boosted["seconds"]), LOGISTIC: float(linear["seconds"])}
        each = [CACHE / f"binary.{j}.{seed}.npz" for j in range(len(names))]
        if all(path.exists() for path in each):
            risk = np.column_stack([np.load(path)["risk"] for path in each])
            shares[RIVAL] = risk / risk.sum(axis=1, keepdims=True)
            seconds[RIVAL] = sum(float(np.load(path)["seconds"]) for path in each)
        runs.append((class_index[test], shares, seconds))
    rows = [_row(name, runs, names) for name in runs[0][1]]
    return pl.DataFrame(rows)


def binaries(frame: pl.DataFrame, class_index: Rows, names: list[str], seeds: int, only: list[str]) -> pl.DataFrame:
    """Compare, class by class, the multiclass model's probability with the risk of a binary model."""
    rows = []
    for j, name in enumerate(names):
        if name not in only:
            continue
        truths, ours, theirs, seconds = [], [], [], []
        for seed in range(seeds):
            train, test = split(class_index, seed)
            x, event, x_test = frame[train], class_index[train] == j, frame[test]
            arguments = x, event, x_test, seed
            binary = _timed(f"binary.{j}.{seed}", lambda arguments=arguments: {"risk": _binary(*arguments)})
            truths.append((class_index[test] == j).astype(int))
            ours.append(np.load(CACHE / f"ours.{seed}.npz")["share"][:, j])
            theirs.append(binary["risk"])
            seconds.append(float(binary["seconds"]))
        gain = paired_intervals(truths, [np.arange(len(y)) for y in truths], ours, {name: theirs})[name]
        row = {"class": name, "test events": int(truths[0].sum())}
        for label, scores in ((OURS, ours), (RIVAL, theirs)):
            row[f"AUPRC, {label}"] = float(np.mean([average_precision_score(y, risk) for y, risk in zip(truths, scores, strict=True)]))
        row |= {"difference (95 %)": signed(gain), "processor s": f"{np.mean(seconds):.0f}"}
        rows.append(row)
    return pl.DataFrame(rows)


def _ours(x: pl.DataFrame, y: Rows, x_test: pl.DataFrame, seed: int) -> dict[str, Rows]:
    model = nw.RiskClassifier(random_state=seed).fit(x, y)
    scored = model.predict_frame(x_test)
    print(model.summary_.retrieval, model.summary_.retrieval.vote_log_loss, flush=True)
    return {part: scored.select(f"{name}: {j}" for j in model.classes_).to_numpy() for part, name in (("share", "risk"), ("vote", "vote"))}


def _binary(x: pl.DataFrame, event: Rows, x_test: pl.DataFrame, seed: int) -> Rows:
    return np.asarray(nw.RiskClassifier(random_state=seed).fit(x, event).predict_proba(x_test)[:, 1])


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
    """Return one model's metrics, means over the seeds, and ours minus it with paired bootstrap intervals."""
    each = np.mean([[average_precision_score(y == j, shares[name][:, j]) for j in range(len(names))] for y, shares, _ in runs], axis=0)
    row: dict[str, object] = {"model": name, "macro AUPRC": float(each.mean())}
    row["log loss"] = float(np.mean([_loss(y, shares[name]).mean() for y, shares, _ in runs]))
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
    errors = []
    for y, shares, _ in runs:
        risk = shares[name][:, j]
        bins = np.minimum((risk * 10).astype(int), 9)
        errors.append(np.abs(np.bincount(bins, weights=(y == j) - risk, minlength=10)).sum() / len(y))
    return float(np.mean(errors))


def _gaps(name: str, runs: list[tuple[Rows, dict[str, Rows], dict[str, float]]], classes: int) -> tuple[str, str]:
    rng = np.random.default_rng(0)
    ranks = [[(Ranking(y == j, s[OURS][:, j]), Ranking(y == j, s[name][:, j])) for j in range(classes)] for y, s, _ in runs]
    losses = [_loss(y, s[OURS]) - _loss(y, s[name]) for y, s, _ in runs]
    gained = []
    for b in range(_RESAMPLES + 1):
        weights = [np.bincount(rng.integers(0, len(y), len(y)), minlength=len(y)).astype(float) for y, *_ in runs]
        if b == 0:
            weights = [np.ones(len(y)) for y, *_ in runs]
        gain = np.mean([[one.auprc(w) - other.auprc(w) for one, other in pairs] for pairs, w in zip(ranks, weights, strict=True)])
        gained.append([gain, np.mean([np.average(loss, weights=w) for loss, w in zip(losses, weights, strict=True)])])
    ends = np.quantile(gained[1:], [0.025, 0.975], axis=0)
    auprc, loss = (f"{gained[0][k]:+.3f} ({ends[0][k]:+.3f} to {ends[1][k]:+.3f})" for k in (0, 1))
    return auprc, loss


def heads(frame: pl.DataFrame, class_index: Rows, names: list[str], seeds: int) -> pl.DataFrame:
    """Train one encoder per seed; score its head and the vote of the 60 nearest rows that it was not trained on: plain and simplex head."""
    rows = []
    for option in ("plain", "simplex"):
        runs = [
            _timed(f"head.{option}.{seed}", lambda seed=seed, option=option: _head(frame, class_index, option, seed))
            for seed in range(seeds)
        ]
        for part in ("head", "vote"):
            each = np.mean([[average_precision_score(one["y"] == j, one[part][:, j]) for j in range(len(names))] for one in runs], axis=0)
            rows.append({"head": option, "by": part, "macro AUPRC": float(each.mean())} | dict(zip(names, each.tolist(), strict=True)))
    return pl.DataFrame(rows)


def _head(frame: pl.DataFrame, class_index: Rows, option: str, seed: int) -> dict[str, Rows]:
    train, test = split(class_index, seed)
    schema = Schema.infer(frame[train])
    encoding = TableEncoder.fit(schema, schema.conform(frame[train]))
    x, x_test = (encoding.transform(schema.conform(frame[rows])) for rows in (train, test))
    candidates = split_classes(class_index[train], np.arange(len(train)), 3, seed) == 0
    encoder = train_encoder(
        x[~candidates], class_index[train][~candidates], np.flatnonzero(~candidates), nw.EncoderConfig(head=option), seed
    )
    embedding, logit = embed(encoder, x_test)
    sq_distance, neighbours = Shard(embed(encoder, x[candidates])[0].astype(np.float32), np.flatnonzero(candidates)).search(
        embedding, _NEIGHBOURS
    )
    weight = np.exp(-(sq_distance - sq_distance[:, :1]) / (2 * encoder.temperature))
    classes = int(class_index.max()) + 1
    vote = np.stack([(weight * (class_index[train][neighbours] == j)).sum(axis=1) for j in range(classes)], axis=1) / weight.sum(
        axis=1, keepdims=True
    )
    return {"head": np.exp(class_log_probabilities(logit, classes)), "vote": vote, "y": class_index[test]}


if __name__ == "__main__":
    main()
