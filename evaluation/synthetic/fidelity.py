"""F, fidelity: how far the synthetic table's marginals lie from unseen real ones, between real rows and independent columns.

Distances are to the holdout, not to train: a table that repeats the accidents of train is nearer to train than fresh real rows are,
and that must earn it nothing. (Measured to train, shuffling every column of train scores about .4 on SUPPORT2 instead of 0.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.evaluation.stats.auc import delong_auc
from nearward.evaluation.stats.block_bootstrap import SUBSAMPLE_SCALE, BlockBootstrap, percentile_interval
from nearward.evaluation.stats.confidence import Estimate, estimate_frame
from nearward.evaluation.tables.inputs import Tables
from nearward.evaluation.tables.marginals import TableBins, column_sets, total_variations
from nearward.evaluation.tables.neighbors import sample_rows
from nearward.tabular.parallel import single_threaded
from nearward.tabular.typing import Floats

WAYS = ((1, 10, 10_000), (2, 10, 435), (3, 5, 300))  # columns at a time, bins a column, most sets of columns
_LEAST = 0.02  # where columns are nearly independent there is nothing to lose, and a quotient of two noises says nothing
_MOST_JUDGED = 5_000  # rows of each table that the classifier sees


@dataclass(frozen=True)
class Fidelity:
    """How like the real rows the synthetic ones are.

    Parameters
    ----------
    score : Estimate
        1 where the synthetic table is as near to the holdout as train is, 0 where as far off as train with every column shuffled.
    distances : pl.DataFrame
        Mean total variation to the holdout of train, synthetic and independent columns, by how many columns at a time.
    two_sample : Estimate
        1 − 2|AUC − ½| of a classifier that tells synthetic from holdout rows; 1: it cannot.
    rows : int
        Rows of train and of the synthetic table that were compared: equally many, since smaller tables lie further off by chance.
    """

    score: Estimate
    distances: pl.DataFrame
    two_sample: Estimate
    rows: int


def independent_columns(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Shuffle each column on its own: every one-way marginal kept, every relation lost."""
    draw = np.random.default_rng(seed)
    return pl.DataFrame([column.gather(draw.permutation(frame.height)) for column in frame.iter_columns()])


def fidelity(tables: Tables, seed: int) -> Fidelity:
    """Compare marginals of one, two and three columns."""
    with single_threaded("faiss", "sklearn.ensemble"):
        return _compared(tables, seed)


def _compared(tables: Tables, seed: int) -> Fidelity:
    rows = min(tables.train.height, tables.synthetic.height)
    real_rows = sample_rows(tables.train.height, rows, seed)
    real, made = tables.train[real_rows], tables.synthetic[sample_rows(tables.synthetic.height, rows, seed + 1)]
    shuffled = independent_columns(real, seed + 2)
    frames = [tables.holdout, real, made, shuffled]
    patients = [tables.holdout_patient_ids, tables.train_patient_ids[real_rows], np.arange(made.height), np.arange(shuffled.height)]
    blocks = [BlockBootstrap.subsampling(patient, seed + 10 + i) for i, patient in enumerate(patients)]
    pool = pl.concat([tables.train, tables.holdout])
    values, draws, told = [], [], []
    codes: dict[int, tuple[TableBins, list[NDArray[np.int64]]]] = {}
    for ways, bins, most in WAYS:
        if ways > tables.train.width:
            continue
        if bins not in codes:
            coding = TableBins.fit(pool, bins)
            codes[bins] = (coding, [coding.transform(frame) for frame in frames])
        coding, coded = codes[bins]
        sets = column_sets(tables.train.width, ways, most, seed + ways)
        found = list(total_variations(coded, blocks, coding.sizes, sets))
        values.append(np.mean([value for value, _ in found], axis=0))
        draws.append(np.mean([drawn for _, drawn in found], axis=0))
        row = {"columns at a time": ways, "sets": len(sets)}
        for name, value, drawn in zip(("train", "synthetic", "independent columns"), values[-1], draws[-1], strict=True):
            row |= {name: percentile_interval(float(value), _rescaled(float(value), drawn), rows)}  # type: ignore[dict-item]
        told.append(row)
    score = _anchored(np.mean(values, axis=0), np.mean(draws, axis=0), rows)
    table = estimate_frame(told, dict.fromkeys(told[0], pl.Object) | {"columns at a time": pl.Int64, "sets": pl.Int64})
    return Fidelity(score, table, _two_sample(tables, seed), rows)


def _anchored(value: Floats, draws: Floats, rows: int) -> Estimate:
    """Place the synthetic table between train (1) and independent columns (0): value (3,), draws (3, b)."""
    lost, range_ = value[1] - value[0], value[2] - value[0]
    lost_drawn, range_drawn = _rescaled(lost, draws[1] - draws[0]), _rescaled(range_, draws[2] - draws[0])
    return percentile_interval(1 - float(lost / max(range_, _LEAST)), 1 - lost_drawn / np.maximum(range_drawn, _LEAST), rows)


def _rescaled(value: float, draws: Floats) -> Floats:
    """Put the spread that parts of the rows show around the value that all of them have (b,)."""
    return np.asarray(value + (draws - draws.mean()) * SUBSAMPLE_SCALE)


def _two_sample(tables: Tables, seed: int) -> Estimate:
    """Train a classifier on half of both tables to tell them apart, judge it on the other half, and the other way round."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    coding = TableBins.fit(pl.concat([tables.train, tables.holdout]), 30)
    sides = []
    for frame, own in ((tables.synthetic, 21), (tables.holdout, 22)):
        rows = sample_rows(frame.height, min(_MOST_JUDGED, tables.synthetic.height, tables.holdout.height), seed + own)
        sides.append((coding.transform(frame[rows]).astype(np.float64), rows))
    made, real = sides[0][0], sides[1][0]
    patient = tables.holdout_patient_ids[sides[1][1]]
    draw = np.random.default_rng(seed + 23)
    half_made = draw.permutation(len(made)) % 2
    half_real = (draw.permutation(int(patient.max()) + 1) % 2)[patient]
    made_score, real_score = np.empty((len(made), 1)), np.empty((len(real), 1))
    for half in (0, 1):
        x = np.concatenate([made[half_made != half], real[half_real != half]])
        y = np.concatenate([np.ones((half_made != half).sum()), np.zeros((half_real != half).sum())])
        model = HistGradientBoostingClassifier(max_iter=60, early_stopping=False, random_state=seed).fit(x, y)
        made_score[half_made == half, 0] = model.predict_proba(made[half_made == half])[:, 1]
        real_score[half_real == half, 0] = model.predict_proba(real[half_real == half])[:, 1]
    area = delong_auc(made_score, real_score, None, patient).intervals()[0]
    ends = [abs(area.low - 0.5), abs(area.high - 0.5)]
    nearest_half = 0.0 if area.low <= 0.5 <= area.high else min(ends)
    return Estimate(1 - 2 * abs(area.value - 0.5), 1 - 2 * max(ends), 1 - 2 * nearest_half, area.n)
