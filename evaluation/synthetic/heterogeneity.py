"""H, heterogeneity: are all kinds of patients still there, the rare outcome and the outliers among them?

A real row is covered if a synthetic row lies within the distance to its fifth nearest real row. Coverage is reckoned per outcome class
and per stratum, and set against that by as many holdout rows; the worst counts.

Letters: m real rows, n rows that cover, g blocks, b resamples.

References
----------
Naeem et al.: Reliable fidelity and diversity metrics for generative models (2020), coverage.
Newcombe: Interval estimation for the difference between independent proportions (1998), method 10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import sqrt

import numpy as np
import polars as pl

from nearward.evaluation.stats.block_bootstrap import BlockBootstrap, percentile_interval
from nearward.evaluation.stats.confidence import Estimate, estimate_frame, estimate_series, wilson
from nearward.evaluation.tables.inputs import Tables
from nearward.evaluation.tables.marginals import TableBins, column_sets, joint_bins
from nearward.evaluation.tables.neighbors import Embeddings, nearest_neighbors, sample_rows
from nearward.tabular.typing import Bools, Floats, Ints

NEIGHBOURS = 5
_CLUSTERS = 4
_MOST_KINDS = 12
_FEWEST = 40  # train rows of a stratum: fewer are not judged apart
_MOST_ROWS = 4_000
_RARE, _KEPT = 0.01, 5  # a rare pattern: at most 1 % of the rows, at least five of them
_PAIRS = 100
_STRATA: dict[str, type[pl.DataType]] = {
    "stratum": pl.String,
    "train rows": pl.Int64,
    **dict.fromkeys(("by holdout", "by synthetic", "ratio"), pl.Object),
}


@dataclass(frozen=True)
class Heterogeneity:
    """Who is still there.

    Parameters
    ----------
    score : Estimate or None
        The smallest, over outcome classes and strata, of the coverage by synthetic rows over that by holdout rows; None where every
        class and stratum is too small.
    strata : pl.DataFrame
        Per class and stratum: rows, coverage by holdout and by synthetic rows, their ratio.
    shift : Estimate
        |q − p|: how far the synthetic event share is from train's.
    shares : pl.DataFrame
        The event share of each table.
    patterns : pl.DataFrame
        Of the rare patterns of train, pairs of bins that five rows to 1 % have, how many holdout and synthetic table have, too.
    """

    score: Estimate | None
    strata: pl.DataFrame
    shift: Estimate
    shares: pl.DataFrame
    patterns: pl.DataFrame


@dataclass(frozen=True)
class _Table:
    """Rows of one table, drawn to a common size: places, outcomes, blocks."""

    frame: pl.DataFrame
    points: Embeddings
    event: Ints
    blocks: BlockBootstrap

    def inside(self, of: Embeddings, radius: Floats, chosen: Bools) -> Bools:
        """Tell which blocks have a chosen row within the radius of each point (m, g)."""
        count = self.blocks.weight.shape[1]
        rows = np.flatnonzero(chosen)
        if len(rows) == 0:
            return np.zeros((len(of), count), dtype=bool)
        among = self.points[rows]
        member = np.zeros((len(rows), count), dtype=np.float32)
        member[np.arange(len(rows)), self.blocks.block[rows]] = 1
        found = np.zeros((len(of), count), dtype=bool)
        length = np.square(among).sum(axis=1)
        for i in range(0, len(of), 1000):
            part = of[i : i + 1000]
            squared = np.square(part).sum(axis=1, keepdims=True) + length - 2 * part @ among.T
            limit = np.square(radius[i : i + 1000, None])
            found[i : i + 1000] = (squared <= limit + 1e-4).astype(np.float32) @ member > 0  # the slack: equal rows, multiplied out
        return found

    def covers(self, inside: Bools) -> tuple[Bools, Bools]:
        """Tell which points are covered: by all rows (m,), and in each resample (b, m)."""
        drawn = (self.blocks.weight > 0).astype(np.float32) @ inside.T.astype(np.float32)
        return np.asarray(inside.any(axis=1)), np.asarray(drawn > 0)


def heterogeneity(tables: Tables, seed: int) -> Heterogeneity:
    """Reckon coverage, event shares and rare patterns."""
    rows = min(tables.holdout.height, tables.synthetic.height, _MOST_ROWS)
    train = _drawn(tables, "train", _MOST_ROWS, seed)
    real, made = _drawn(tables, "holdout", rows, seed + 1), _drawn(tables, "synthetic", rows, seed + 2)
    listed: list[dict[str, object]] = []
    values, draws = [], []
    for name, chosen, among_whom in _strata(train, tables.outcome, seed):
        points = train.points[chosen]
        among = train.points if among_whom is None else points
        radius = nearest_neighbors(points, among, min(NEIGHBOURS + 1, len(among)))[0][:, -1]  # the first neighbour is the row itself
        weight = train.blocks.weight[:, train.blocks.block[chosen]] + 1e-9  # (b, m); no draw is without any row
        shares, resampled = [], []
        for table in (real, made):
            allowed = np.ones(rows, dtype=bool) if among_whom is None else among_whom(table)
            once, again = table.covers(table.inside(points, radius, allowed))
            shares.append(float(once.mean()))
            resampled.append((weight * again).sum(axis=1) / weight.sum(axis=1))
        value = min(shares[1] / shares[0], 1.0) if shares[0] else 0.0
        drawn = np.minimum(resampled[1] / np.maximum(resampled[0], 1e-9), 1.0)
        ratio = percentile_interval(value, drawn, len(points))
        by = [percentile_interval(share, drawn_share, len(points)) for share, drawn_share in zip(shares, resampled, strict=True)]
        listed.append({"stratum": name, "train rows": len(points), "by holdout": by[0], "by synthetic": by[1], "ratio": ratio})
        values.append(value)
        draws.append(drawn + (value - drawn.mean()))
    score = percentile_interval(min(values), np.min(draws, axis=0), train.frame.height) if values else None
    shift, shares_told = _shares(tables)
    return Heterogeneity(score, estimate_frame(listed, _STRATA), shift, shares_told, _patterns(tables, train, real, made, seed))


def _drawn(tables: Tables, name: str, most: int, seed: int) -> _Table:
    whole: pl.DataFrame = getattr(tables, name)
    rows = sample_rows(whole.height, most, seed)
    patient = {"train": tables.train_patient_ids, "holdout": tables.holdout_patient_ids}.get(name, np.arange(whole.height))[rows]
    frame = whole[rows]
    return _Table(frame, tables.embedding.transform(frame), tables.events(frame), BlockBootstrap.with_replacement(patient, seed + 7))


def _strata(train: _Table, outcome: str, seed: int) -> list[tuple[str, Bools, Callable[[_Table], Bools] | None]]:
    """Name each class and stratum, its train rows, and which rows of another table may cover them; None: all.

    Classes are judged however few they are: the interval says how well. A kind of patient, a level of a category that 5 % to 50 % of
    the rows have, is covered only by its like; the smallest come first, up to twelve.
    """
    from sklearn.cluster import KMeans

    found: list[tuple[str, Bools, Callable[[_Table], Bools] | None]] = []
    for name, value in (("the event", 1), ("no event", 0)):
        if (train.event == value).sum() > NEIGHBOURS:
            found.append((name, train.event == value, partial(_with_outcome, value=value)))
    kinds = []
    for column in train.frame.iter_columns():
        if column.dtype != pl.String or column.name == outcome:
            continue
        for level, rows in column.drop_nulls().alias("level").value_counts(name="rows").sort("level").iter_rows():
            if max(_FEWEST, 0.05 * len(column)) <= rows <= 0.5 * len(column):
                kinds.append((rows, column.name, level))
    for _, name, level in sorted(kinds)[:_MOST_KINDS]:
        found.append((f"{name} = {level}", _having(train, name, level), partial(_having, column=name, level=level)))
    place = KMeans(_CLUSTERS, n_init=3, random_state=seed).fit_predict(train.points)
    found += [(f"cluster {j + 1}", place == j, None) for j in range(_CLUSTERS) if (place == j).sum() >= _FEWEST]
    far = nearest_neighbors(train.points, train.points, NEIGHBOURS + 1)[0][:, -1]
    outlying = far >= np.quantile(far, 0.9)
    return [*found, ("outliers", outlying, None)] if outlying.sum() >= _FEWEST else found


def _with_outcome(table: _Table, value: int) -> Bools:
    return np.asarray(table.event == value)


def _having(table: _Table, column: str, level: str) -> Bools:
    return np.asarray((table.frame.get_column(column) == level).fill_null(value=False).to_numpy())


def _shares(tables: Tables) -> tuple[Estimate, pl.DataFrame]:
    events = {name: tables.events(getattr(tables, name)) for name in ("train", "holdout", "synthetic")}
    share = {name: wilson(int(y.sum()), len(y)) for name, y in events.items()}
    p, q = share["train"], share["synthetic"]
    gap = q.value - p.value
    low = gap - sqrt((q.value - q.low) ** 2 + (p.high - p.value) ** 2)
    high = gap + sqrt((q.high - q.value) ** 2 + (p.value - p.low) ** 2)
    shift = Estimate(abs(gap), 0.0 if low <= 0 <= high else min(abs(low), abs(high)), max(abs(low), abs(high)), q.n)
    return shift, pl.DataFrame([pl.Series("table", list(share)), estimate_series("event share", list(share.values()))])


def _patterns(tables: Tables, train: _Table, real: _Table, made: _Table, seed: int) -> pl.DataFrame:
    coding = TableBins.fit(pl.concat([tables.train, tables.holdout]), 5)
    codes = [coding.transform(table.frame) for table in (train, real, made)]
    inside: dict[str, list[Bools]] = {"holdout": [], "synthetic": []}
    for columns in column_sets(train.frame.width, 2, _PAIRS, seed):
        number, cells = joint_bins(codes[0], coding.sizes, columns)
        held = np.bincount(number, minlength=cells)
        rare = np.flatnonzero((held >= _KEPT) & (held <= _RARE * len(number)))
        for name, table, coded in (("holdout", real, codes[1]), ("synthetic", made, codes[2])):
            g = table.blocks.weight.shape[1]
            there = np.zeros((g, cells), dtype=bool)
            there[table.blocks.block, joint_bins(coded, coding.sizes, columns)[0]] = True
            inside[name].append(there[:, rare].T)
    count = sum(len(part) for part in inside["holdout"])
    kept = []
    for name, table in (("holdout", real), ("synthetic", made)):
        once, again = table.covers(np.concatenate(inside[name])) if count else (None, None)
        kept.append(percentile_interval(float(once.mean()), again.mean(axis=1), count) if once is not None and again is not None else None)
    return pl.DataFrame({"table": ["holdout", "synthetic"], "patterns": [count] * 2, "kept": estimate_series("kept", kept)})
