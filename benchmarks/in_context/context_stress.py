"""Stress test: the same in-context network under different contexts, as events get rare, rows few or columns noisy.

    .venv/bin/python -m benchmarks.in_context.context_stress [--data DIR] [--study ratio,rows,noise] [--seeds 3] [--adapted 3] [--prepare] [--publish]

Features only, no expert panel: what the network says rests on what the context shows it. Contexts of 128 rows: drawn at random; the
nearest in standardised columns and one-hot ("raw kNN"); the same with the class floor; AWARE's (cross-fitted encoders, class floor);
and, in the study of ratios, AWARE's with the LoRA adapter, where the out-of-fold AUPRC keeps it.

Studies: ``ratio``, 10,000 training rows with 5 to 500 others for each event; ``rows``, 300 to 50,000 training rows as they come;
``noise``, 3,000 training rows, up to 100 shuffled copies of columns added. Every seed draws its own training rows, and its own 5,000 test
rows (as they come, disjoint between seeds) from the other side of one split by patients. Intervals: 95 %, test patients resampled, paired.

What does not depend on the network's weights lies in out/imbalance and is not made again; --prepare makes that alone. What was judged lies
there too, under a digest of the weights. --publish writes benchmarks/results/context_stress.csv, docs/pictures/imbalance-*.svg and the tables of
docs/benchmarks.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score

from benchmarks.common.baselines import stacked, standardised
from benchmarks.common.cohorts import DATA, cohorts, splits
from benchmarks.common.paired_metrics import paired_intervals
from nearward.datasets import Cohort
from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.retrieval.neighbors.binary import Retriever, fit_retriever
from nearward.retrieval.neighbors.voting import Context, Rule
from nearward.risk_model.in_context import EnsembleView, InContextModel, StoredRows, fit_in_context_model
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.in_context.checkpoint import load_net
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.preprocessing.target_encoder import TargetEncoder

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "out" / "imbalance"
RATIOS, ROWS, NOISE = (5, 10, 20, 50, 100, 200, 500), (300, 1_000, 3_000, 10_000, 50_000), (0, 10, 30, 100)
LEVELS = {"ratio": RATIOS, "rows": ROWS, "noise": NOISE}
RANDOM, RAW, RAW_FLOOR, AWARE, ADAPTED = "random", "raw kNN", "raw kNN, floor", "AWARE", "AWARE + adapter"
_STORED, _NOISY_STORED, _ASKED, _NEIGHBOURS = 10_000, 3_000, 5_000, 128
_FLOOR = 8  # events that the floor adds at least, as retrieval's does
_RULE = Rule(_NEIGHBOURS, True, 1.0)


@dataclass(frozen=True)
class Cell:
    """One training set of a study."""

    cohort: Cohort
    study: str
    level: int
    seed: int

    @property
    def path(self) -> Path:
        """Where its retrieval is kept."""
        return KEPT / f"{self.cohort.name}.{self.study}.{self.level}.{self.seed}.pkl"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--data", type=Path, default=DATA, help="folder of cohorts: table.parquet with table.json")
    asked.add_argument("--study", default="ratio,rows,noise")
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--adapted", type=int, default=3, help="of the seeds, with how many of the ratios the adapter is tried: it is dear")
    asked.add_argument("--prepare", action="store_true", help="make what does not depend on the network, and stop")
    asked.add_argument("--publish", action="store_true")
    told = asked.parse_args()
    warnings.simplefilter("ignore")
    KEPT.mkdir(parents=True, exist_ok=True)
    cells = list(_cells([c for c in cohorts(told.data) if len(c.outcome) > 20_000], told.study.split(","), told.seeds))
    found = []
    for cell in cells:
        if not cell.path.exists():
            _keep(cell)
        if not told.prepare:
            found.append((cell, _judged(cell, cell.study == "ratio" and cell.seed < told.adapted)))
    if told.prepare:
        return
    figures, gains = _figures(found), _gains(found)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200):
        print(figures, gains, sep="\n")
    if told.publish:
        from benchmarks.in_context.context_stress_report import publish

        publish(figures, gains)


def _cells(tasks: list[Cohort], studies: list[str], seeds: int) -> Iterator[Cell]:
    """Seed by seed, so that what is there after an hour is a whole."""
    for seed in range(seeds):
        for study in studies:
            for cohort in tasks:
                yield from (Cell(cohort, study, level, seed) for level in LEVELS[study])


# ---- what does not depend on the network --------------------------------------------------------------------------------------------


def _rows(cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Draw a cell's training and test rows."""
    ((train, test),) = splits(cell.cohort)
    y = cell.cohort.outcome
    asked = np.random.default_rng(0).permutation(test)[cell.seed * _ASKED : (cell.seed + 1) * _ASKED]
    drawn = np.random.default_rng(cell.seed + 1).permutation(train)
    if cell.study == "ratio":
        events = round(_STORED / (1 + cell.level))
        stored = np.concatenate([drawn[y[drawn] == 1][:events], drawn[y[drawn] == 0][: _STORED - events]])
    else:
        stored = drawn[: cell.level if cell.study == "rows" else _NOISY_STORED]
    return np.sort(stored), np.sort(asked)


def _features(cell: Cell, stored: np.ndarray, asked: np.ndarray) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The columns, and in the study of noise shuffled copies of some beside them."""
    frames = cell.cohort.features[stored], cell.cohort.features[asked]
    if cell.study != "noise":
        return frames
    draw = np.random.default_rng(cell.seed)
    names = [frames[0].columns[j] for j in draw.integers(0, frames[0].width, cell.level)]
    copies = [
        pl.DataFrame([frame[name].gather(draw.permutation(frame.height)).alias(f"noise {i}") for i, name in enumerate(names)])
        for frame in frames
    ]
    return frames[0].hstack(copies[0]), frames[1].hstack(copies[1])


def _keep(cell: Cell) -> None:
    """Train the encoders, find the raw neighbours, and write all that judging needs."""
    stored, asked = _rows(cell)
    seen, new = _features(cell, stored, asked)
    y, group = cell.cohort.outcome[stored], stored if cell.cohort.group is None else cell.cohort.group[stored]
    group = np.unique(group, return_inverse=True)[1]
    fold = split_patients(y, group, 5, cell.seed)
    schema = Schema.infer(seen)
    encoding = TableEncoder.fit(schema, schema.conform(seen))
    numbers, numbers_new = (encoding.numbers(schema.conform(frame)) for frame in (seen, new))
    dense, dense_new = encoding.dense(numbers), encoding.dense(numbers_new)
    levels = [len(c.levels) for c in encoding.category]
    rates = [TargetEncoder.fit(numbers.code[fold != f], levels, y[fold != f]) for f in range(fold.max() + 1)]
    rate = np.stack([r.apply(numbers.code) for r in rates])[fold, np.arange(len(fold))]
    rate_new = np.mean([r.apply(numbers_new.code) for r in rates], axis=0)
    retriever, *_ = fit_retriever(dense, TrainingData(y, group, fold), EncoderConfig(), cell.seed, lambda words: None)
    rows = StoredRows(np.column_stack([numbers.value, rate]), np.zeros((len(y), 0)), dense, TrainingData(y, group, fold))
    kept = {
        "rows": rows,
        "retriever": retriever.state(),
        "value_new": np.column_stack([numbers_new.value, rate_new]),
        "dense_new": dense_new,
        "outcome_new": cell.cohort.outcome[asked],
        "group_new": asked if cell.cohort.group is None else cell.cohort.group[asked],
        "raw": _raw_neighbours(seen, new, y),
    }
    temporary = cell.path.with_suffix(".part")
    temporary.write_bytes(pickle.dumps(kept))
    temporary.replace(cell.path)
    print(f"kept {cell.path.name}", flush=True)


def _raw_neighbours(seen: pl.DataFrame, new: pl.DataFrame, outcome: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and squared distances in standardised columns: of the 128 nearest, of the 8 nearest events, and of 128 drawn at random."""
    table, numbers, text = stacked(seen)
    prepare = standardised(numbers, text).set_params(sparse_threshold=0)
    x, x_new = (np.ascontiguousarray(part, dtype=np.float32) for part in (prepare.fit_transform(table), prepare.transform(stacked(new)[0])))
    events = np.flatnonzero(outcome == 1)
    found = []
    for among, count in ((np.arange(len(x)), min(_NEIGHBOURS, len(x))), (events, min(_FLOOR, len(events)))):
        index = faiss.IndexFlatL2(x.shape[1])
        index.add(x[among])
        squared, place = index.search(x_new, count)
        found.append((among[place].astype(np.int32), squared))
    draw = np.random.default_rng(0)
    drawn = np.stack([draw.choice(len(x), min(_NEIGHBOURS, len(x)), replace=False) for _ in range(len(x_new))]).astype(np.int32)
    apart = np.concatenate([((x[d] - q[None, None]) ** 2).sum(axis=2) for d, q in zip(drawn[:, None], x_new, strict=True)])
    return [*found, (drawn, apart)]


# ---- what the network says ----------------------------------------------------------------------------------------------------------


def _judged(cell: Cell, adapted: bool) -> dict[str, Any]:
    """Judge a cell, or take what was kept of judging it with these weights."""
    path = cell.path.with_suffix(f".{_weights()}.{'adapted' if adapted else 'judged'}")
    if not path.exists():
        found = _judge(cell, adapted)
        temporary = path.with_suffix(".part")
        temporary.write_bytes(pickle.dumps(found))
        temporary.replace(path)
    told: dict[str, Any] = pickle.loads(path.read_bytes())
    return told


@cache
def _weights() -> str:
    """Eight letters that change with the network's weights."""
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in load_net().parameters())).hexdigest()[:8]


def _judge(cell: Cell, adapted: bool) -> dict[str, Any]:
    """Return the risks under every context, and what judging them needs."""
    kept = pickle.loads(cell.path.read_bytes())
    rows, retriever = kept["rows"], Retriever.from_state(kept["retriever"])
    way = EnsembleView(_RULE, np.arange(rows.value.shape[1]), np.arange(0))
    plain = InContextModel(load_net(), (way,), rows.value, rows.score, rows.data.outcome)
    score_new = np.zeros((len(kept["value_new"]), 0))

    def risk(model: InContextModel, context: Context) -> np.ndarray:
        return model.ask(kept["value_new"], score_new, [context])[0]

    (near, event, drawn), known = kept["raw"], rows.data.outcome.astype(float)
    (found,), _ = retriever.contexts(kept["dense_new"], (_RULE,))
    adapter = {"kept": False, "why": "not tried"}
    risks = {
        RANDOM: risk(plain, _context([drawn], known)),
        RAW: risk(plain, _context([near], known)),
        RAW_FLOOR: risk(plain, _context([near, event], known)),
        AWARE: risk(plain, found),
    }
    if adapted:
        changed, _, told = fit_in_context_model(rows, retriever, 1, True, cell.seed, lambda words: None)
        adapter = told["adapter"]
        risks[ADAPTED] = risk(changed, found) if adapter["kept"] else risks[AWARE]
    y = kept["outcome_new"]
    auprc = {name: float(average_precision_score(y, r)) for name, r in risks.items()}
    print(cell.path.stem, {name: round(value, 4) for name, value in auprc.items()}, adapter, flush=True)
    return {
        "risks": risks,
        "auprc": auprc,
        "outcome": y,
        "group": kept["group_new"],
        "adapter": adapter,
        "events": int(known.sum()),
    }


def _context(parts: list[tuple[np.ndarray, np.ndarray]], outcome: np.ndarray) -> Context:
    """Make a context of the nearest rows, and of the floor's events where they are further than these."""
    (row, squared), rest = parts[0], parts[1:]
    floored = np.zeros(row.shape, dtype=bool)
    for more, far in rest:
        outside = far > squared.max(axis=1, keepdims=True)
        row, squared = np.hstack([row, np.where(outside, more, -1)]), np.hstack([squared, np.where(outside, far, np.inf)])
        floored = np.hstack([floored, outside])
    known = np.where(row >= 0, outcome[row], 0.0)
    return Context(row.astype(np.int64), np.zeros(row.shape), known, squared.astype(float), floored, np.zeros(row.shape[1], dtype=np.int64))


# ---- tables -------------------------------------------------------------------------------------------------------------------------


def _figures(found: list[tuple[Cell, dict[str, Any]]]) -> pl.DataFrame:
    """One row for each training set and context."""
    return pl.DataFrame(
        [
            {"study": c.study, "task": c.cohort.name, "level": c.level, "seed": c.seed, "events": told["events"], "context": name}
            | {"auprc": auprc, "adapter_kept": told["adapter"]["kept"], "weights": _weights()}
            for c, told in found
            for name, auprc in told["auprc"].items()
        ]
    )


def _gains(found: list[tuple[Cell, dict[str, Any]]]) -> pl.DataFrame:
    """Mean AUPRC over the seeds, and AWARE's less the others', paired."""
    out = []
    for place in dict.fromkeys((c.study, c.cohort.name, c.level) for c, _ in found):
        told = [t for c, t in found if (c.study, c.cohort.name, c.level) == place]
        mean = {name: float(np.mean([t["auprc"][name] for t in told])) for name in (RANDOM, RAW, RAW_FLOOR, AWARE)}
        less = _aware_less(told, (RANDOM, RAW, RAW_FLOOR))
        adapted = [t for t in told if ADAPTED in t["risks"]]  # tried with some of the seeds
        if adapted:
            less |= _aware_less(adapted, (ADAPTED,))
        if len(adapted) == len(told):  # means over other seeds could not be compared
            mean[ADAPTED] = float(np.mean([t["auprc"][ADAPTED] for t in adapted]))
        out.append(
            dict(zip(("study", "task", "level"), place, strict=True))
            | {"prevalence": float(np.mean([t["outcome"].mean() for t in told]))}
            | mean
            | {"AWARE / raw kNN": mean[AWARE] / mean[RAW], "AWARE / raw kNN, floor": mean[AWARE] / mean[RAW_FLOOR]}
            | {f"AWARE less {name}": "{:+.3f} ({:+.3f} to {:+.3f})".format(*gap) for name, gap in less.items()}
        )
    return pl.DataFrame(out)


def _aware_less(told: list[dict[str, Any]], others: tuple[str, ...]) -> dict[str, tuple[float, float, float]]:
    """AUPRC of AWARE's contexts less each other's, mean over the seeds, with its interval."""
    risks = {name: [t["risks"][name] for t in told] for name in (AWARE, *others)}
    ours = risks.pop(AWARE)
    return paired_intervals([t["outcome"] for t in told], [t["group"] for t in told], ours, risks)


if __name__ == "__main__":
    main()
