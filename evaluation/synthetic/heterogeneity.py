"""H, heterogeneity: coverage of all kinds of patients, the rare outcome and the outliers included.

A real row is covered if a synthetic row lies within the distance to its fifth nearest real row. Coverage is computed per outcome class
and per stratum, and divided by the coverage by as many holdout rows; the worst ratio counts.

Shapes: m real rows, n covering rows, g blocks, b resamples.

References
----------
Naeem et al.: Reliable fidelity and diversity metrics for generative models (2020), coverage.
Newcombe: Interval estimation for the difference between independent proportions (1998), method 10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from nearward.evaluation.stats.block_bootstrap import BlockBootstrap, percentile_interval
from nearward.evaluation.stats.confidence import Estimate, estimate_frame, estimate_series, newcombe, wilson
from nearward.evaluation.synthetic.results import Heterogeneity
from nearward.evaluation.tables.inputs import Tables
from nearward.evaluation.tables.marginals import TableBins, column_sets, joint_bins
from nearward.evaluation.tables.neighbors import Embeddings, nearest_neighbors, sample_rows
from nearward.tabular.typing import Bools, Floats, Ints

NEIGHBOURS = 5
_CLUSTERS = 4
_MAX_CATEGORIES = 12
_MIN_STRATUM = 40  # train rows: smaller strata are not evaluated
_MAX_ROWS = 4_000
_RARE, _MIN_PATTERN = 0.01, 5  # a rare pattern: at most 1 % of the rows, at least five of them
_PAIRS = 100
_STRATA: dict[str, type[pl.DataType]] = {
    "stratum": pl.String,
    "train rows": pl.Int64,
    **dict.fromkeys(("by holdout", "by synthetic", "ratio"), pl.Object),
}


@dataclass(frozen=True)
class _Sample:
    """Rows of one table, sampled to a common size: embeddings, events, blocks of the bootstrap."""

    frame: pl.DataFrame
    embeddings: Embeddings
    event: Ints
    blocks: BlockBootstrap

    @classmethod
    def of(cls, tables: Tables, name: str, size: int, seed: int) -> _Sample:
        """Sample one of the tables."""
        table: pl.DataFrame = getattr(tables, name)
        rows = sample_rows(table.height, size, seed)
        patient_ids = {"train": tables.train_patient_ids, "holdout": tables.holdout_patient_ids}.get(name, np.arange(table.height))[rows]
        frame = table[rows]
        return cls(frame, tables.embedding.transform(frame), tables.events(frame), BlockBootstrap.with_replacement(patient_ids, seed + 7))

    def within_radius(self, embeddings: Embeddings, radius: Floats, eligible: Bools) -> Bools:
        """Tell which blocks have an eligible row within the radius of each embedding (m, g)."""
        blocks = self.blocks.weight.shape[1]
        rows = np.flatnonzero(eligible)
        within = np.zeros((len(embeddings), blocks), dtype=bool)
        if len(rows) == 0:
            return within
        covering = self.embeddings[rows]
        block = np.zeros((len(rows), blocks), dtype=np.float32)
        block[np.arange(len(rows)), self.blocks.block[rows]] = 1
        sq_norm = np.square(covering).sum(axis=1)
        for i in range(0, len(embeddings), 1000):
            batch = embeddings[i : i + 1000]
            sq_distance = np.square(batch).sum(axis=1, keepdims=True) + sq_norm - 2 * batch @ covering.T
            limit = np.square(radius[i : i + 1000, None]) + 1e-4  # the slack: rounding of equal rows
            within[i : i + 1000] = (sq_distance <= limit).astype(np.float32) @ block > 0
        return within

    def covers(self, within: Bools) -> tuple[Bools, Bools]:
        """Tell which rows are covered: by all rows (m,), and in each resample (b, m)."""
        resampled = (self.blocks.weight > 0).astype(np.float32) @ within.T.astype(np.float32)
        return np.asarray(within.any(axis=1)), np.asarray(resampled > 0)


@dataclass(frozen=True)
class _Stratum:
    """Train rows of one kind.

    Parameters
    ----------
    name : str
    rows : (m,) of bool
    eligible : callable or None
        Which rows of another sample may cover them; None: all.
    """

    name: str
    rows: Bools
    eligible: Callable[[_Sample], Bools] | None = None


def heterogeneity(tables: Tables, seed: int) -> Heterogeneity:
    """Compute coverage, event shares and rare patterns."""
    size = min(tables.holdout.height, tables.synthetic.height, _MAX_ROWS)
    train = _Sample.of(tables, "train", _MAX_ROWS, seed)
    real, synthetic = _Sample.of(tables, "holdout", size, seed + 1), _Sample.of(tables, "synthetic", size, seed + 2)
    table_rows: list[dict[str, object]] = []
    values, draws = [], []
    for stratum in _strata(train, tables.outcome, seed):
        embeddings = train.embeddings[stratum.rows]
        neighbours = train.embeddings if stratum.eligible is None else embeddings
        k = min(NEIGHBOURS + 1, len(neighbours))  # the first neighbour is the row itself
        radius = nearest_neighbors(embeddings, neighbours, k)[0][:, -1]
        weight = train.blocks.weight[:, train.blocks.block[stratum.rows]] + 1e-9  # (b, m); no resample is without any row
        coverage, resampled = [], []
        for sample in (real, synthetic):
            eligible = np.ones(size, dtype=bool) if stratum.eligible is None else stratum.eligible(sample)
            covered, covered_draws = sample.covers(sample.within_radius(embeddings, radius, eligible))
            coverage.append(float(covered.mean()))
            resampled.append((weight * covered_draws).sum(axis=1) / weight.sum(axis=1))
        value = min(coverage[1] / coverage[0], 1.0) if coverage[0] else 0.0
        ratio_draws = np.minimum(resampled[1] / np.maximum(resampled[0], 1e-9), 1.0)
        by = [percentile_interval(share, share_draws, len(embeddings)) for share, share_draws in zip(coverage, resampled, strict=True)]
        ratio = percentile_interval(value, ratio_draws, len(embeddings))
        table_rows.append(
            {"stratum": stratum.name, "train rows": len(embeddings), "by holdout": by[0], "by synthetic": by[1], "ratio": ratio}
        )
        values.append(value)
        draws.append(ratio_draws + (value - ratio_draws.mean()))
    score = percentile_interval(min(values), np.min(draws, axis=0), train.frame.height) if values else None
    shift, shares = _event_shares(tables)
    patterns = _rare_patterns(tables, train, real, synthetic, seed)
    return Heterogeneity(score, estimate_frame(table_rows, _STRATA), shift, shares, patterns)


def _strata(train: _Sample, outcome: str, seed: int) -> list[_Stratum]:
    """Return outcome classes, categories, clusters and outliers.

    Classes are evaluated however few their rows are: the interval shows the uncertainty. A category of 5 % to 50 % of the rows is covered
    only by rows of the same category; the rarest come first, up to twelve.
    """
    from sklearn.cluster import KMeans

    strata: list[_Stratum] = []
    for name, value in (("the event", 1), ("no event", 0)):
        if (train.event == value).sum() > NEIGHBOURS:
            strata.append(_Stratum(name, train.event == value, partial(_with_event, value=value)))
    categories = []
    for column in train.frame.iter_columns():
        if column.dtype != pl.String or column.name == outcome:
            continue
        for category, rows in column.drop_nulls().alias("category").value_counts(name="rows").sort("category").iter_rows():
            if max(_MIN_STRATUM, 0.05 * len(column)) <= rows <= 0.5 * len(column):
                categories.append((rows, column.name, category))
    for _, name, category in sorted(categories)[:_MAX_CATEGORIES]:
        in_category = partial(_with_category, column=name, category=category)
        strata.append(_Stratum(f"{name} = {category}", in_category(train), in_category))
    cluster = KMeans(_CLUSTERS, n_init=3, random_state=seed).fit_predict(train.embeddings)
    strata += [_Stratum(f"cluster {j + 1}", cluster == j) for j in range(_CLUSTERS) if (cluster == j).sum() >= _MIN_STRATUM]
    distance = nearest_neighbors(train.embeddings, train.embeddings, NEIGHBOURS + 1)[0][:, -1]
    outliers = distance >= np.quantile(distance, 0.9)
    return [*strata, _Stratum("outliers", outliers)] if outliers.sum() >= _MIN_STRATUM else strata


def _with_event(sample: _Sample, value: int) -> Bools:
    return np.asarray(sample.event == value)


def _with_category(sample: _Sample, column: str, category: str) -> Bools:
    return np.asarray((sample.frame.get_column(column) == category).fill_null(value=False).to_numpy())


def _event_shares(tables: Tables) -> tuple[Estimate, pl.DataFrame]:
    """Return the difference between the event shares of synthetic table and train, with Newcombe's interval, and all three shares."""
    events = {name: tables.events(getattr(tables, name)) for name in ("train", "holdout", "synthetic")}
    share = {name: wilson(int(event.sum()), len(event)) for name, event in events.items()}
    p, q = share["train"], share["synthetic"]
    low, high = newcombe(q, p)
    bounds = abs(low), abs(high)
    shift = Estimate(abs(q.value - p.value), 0.0 if low <= 0 <= high else min(bounds), max(bounds), q.n)
    return shift, pl.DataFrame([pl.Series("table", list(share)), estimate_series("event share", list(share.values()))])


def _rare_patterns(tables: Tables, train: _Sample, real: _Sample, synthetic: _Sample, seed: int) -> pl.DataFrame:
    """Return the share of train's rare pairs of bins that the other tables have."""
    coding = TableBins.fit(pl.concat([tables.train, tables.holdout]), 5)
    codes = [coding.transform(sample.frame) for sample in (train, real, synthetic)]
    present: dict[str, list[Bools]] = {"holdout": [], "synthetic": []}
    for columns in column_sets(train.frame.width, 2, _PAIRS, seed):
        number, cells = joint_bins(codes[0], coding.sizes, columns)
        count = np.bincount(number, minlength=cells)
        rare = np.flatnonzero((count >= _MIN_PATTERN) & (count <= _RARE * len(number)))
        for name, sample, coded in (("holdout", real, codes[1]), ("synthetic", synthetic, codes[2])):
            in_block = np.zeros((sample.blocks.weight.shape[1], cells), dtype=bool)
            in_block[sample.blocks.block, joint_bins(coded, coding.sizes, columns)[0]] = True
            present[name].append(in_block[:, rare].T)
    patterns = sum(len(part) for part in present["holdout"])
    shares: list[Estimate | None] = [None, None]
    if patterns:
        for i, (name, sample) in enumerate((("holdout", real), ("synthetic", synthetic))):
            covered, covered_draws = sample.covers(np.concatenate(present[name]))
            shares[i] = percentile_interval(float(covered.mean()), covered_draws.mean(axis=1), patterns)
    return pl.DataFrame({"table": ["holdout", "synthetic"], "patterns": [patterns] * 2, "kept": estimate_series("kept", shares)})
