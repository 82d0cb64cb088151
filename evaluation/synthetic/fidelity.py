"""F, fidelity: distance of the synthetic table's marginals to those of the holdout, on a scale from train (1) to independent columns (0).

Distances are to the holdout, not to train: a table that repeats the sampling noise of train is nearer to train than fresh real rows are,
and must not be rewarded for that. (Measured to train, shuffling every column of train scores about .4 on SUPPORT2 instead of 0.)
"""

from __future__ import annotations

import numpy as np
import polars as pl

from nearward.evaluation.stats.auc import delong_auc
from nearward.evaluation.stats.block_bootstrap import SUBSAMPLE_SCALE, BlockBootstrap, percentile_interval
from nearward.evaluation.stats.confidence import Estimate, estimate_frame
from nearward.evaluation.synthetic.results import Fidelity
from nearward.evaluation.tables.inputs import Tables
from nearward.evaluation.tables.marginals import TableBins, column_sets, total_variations
from nearward.evaluation.tables.neighbors import sample_rows
from nearward.tabular.parallel import single_threaded
from nearward.tabular.typing import Floats, Ints

MARGINALS = ((1, 10, 10_000), (2, 10, 435), (3, 5, 300))  # columns at a time, bins per column, most sets of columns
_MIN_RANGE = 0.02  # where columns are nearly independent, the scale would be a ratio of two noises
_MAX_CLASSIFIED = 5_000  # rows of each table that the classifier uses


def independent_columns(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Shuffle each column separately: all one-way marginals stay, all associations are lost."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame([column.gather(rng.permutation(frame.height)) for column in frame.iter_columns()])


def fidelity(tables: Tables, seed: int) -> Fidelity:
    """Compare marginals of one, two and three columns."""
    with single_threaded("faiss", "sklearn.ensemble"):
        return _compare_marginals(tables, seed)


def _compare_marginals(tables: Tables, seed: int) -> Fidelity:
    rows = min(tables.train.height, tables.synthetic.height)
    real_rows = sample_rows(tables.train.height, rows, seed)
    real, synthetic = tables.train[real_rows], tables.synthetic[sample_rows(tables.synthetic.height, rows, seed + 1)]
    frames = [tables.holdout, real, synthetic, independent_columns(real, seed + 2)]
    patient_ids = [tables.holdout_patient_ids, tables.train_patient_ids[real_rows], *(np.arange(frame.height) for frame in frames[2:])]
    blocks = [BlockBootstrap.subsampling(ids, seed + 10 + i) for i, ids in enumerate(patient_ids)]
    pool = pl.concat([tables.train, tables.holdout])
    values, resampled, table_rows = [], [], []
    codes: dict[int, tuple[TableBins, list[Ints]]] = {}
    for ways, bins, max_sets in MARGINALS:
        if ways > tables.train.width:
            continue
        if bins not in codes:
            coding = TableBins.fit(pool, bins)
            codes[bins] = (coding, [coding.transform(frame) for frame in frames])
        coding, coded = codes[bins]
        sets = column_sets(tables.train.width, ways, max_sets, seed + ways)
        per_set = list(total_variations(coded, blocks, coding.sizes, sets))
        values.append(np.mean([value for value, _ in per_set], axis=0))
        resampled.append(np.mean([values for _, values in per_set], axis=0))
        row = {"columns at a time": ways, "sets": len(sets)}
        for name, value, draws in zip(("train", "synthetic", "independent columns"), values[-1], resampled[-1], strict=True):
            row |= {name: percentile_interval(float(value), _rescaled(float(value), draws), rows)}  # type: ignore[dict-item]
        table_rows.append(row)
    score = _scaled(np.mean(values, axis=0), np.mean(resampled, axis=0), rows)
    table = estimate_frame(table_rows, dict.fromkeys(table_rows[0], pl.Object) | {"columns at a time": pl.Int64, "sets": pl.Int64})
    return Fidelity(score, table, _two_sample(tables, seed), rows)


def _scaled(value: Floats, draws: Floats, rows: int) -> Estimate:
    """Scale the synthetic table's distance to 1 for train's and 0 for that of independent columns: value (3,), draws (3, b)."""
    loss, range_ = value[1] - value[0], value[2] - value[0]
    loss_draws, range_draws = _rescaled(loss, draws[1] - draws[0]), _rescaled(range_, draws[2] - draws[0])
    return percentile_interval(1 - float(loss / max(range_, _MIN_RANGE)), 1 - loss_draws / np.maximum(range_draws, _MIN_RANGE), rows)


def _rescaled(value: float, draws: Floats) -> Floats:
    """Centre the draws of subsamples at the value of all rows, with their spread rescaled to the full size (b,)."""
    return np.asarray(value + (draws - draws.mean()) * SUBSAMPLE_SCALE)


def _two_sample(tables: Tables, seed: int) -> Estimate:
    """Return 1 − 2|AUC − ½| of a cross-fitted classifier of synthetic against holdout rows, in two folds."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    coding = TableBins.fit(pl.concat([tables.train, tables.holdout]), 30)
    size = min(_MAX_CLASSIFIED, tables.synthetic.height, tables.holdout.height)
    synthetic_rows, real_rows = (sample_rows(frame.height, size, seed + i) for frame, i in ((tables.synthetic, 21), (tables.holdout, 22)))
    synthetic = coding.transform(tables.synthetic[synthetic_rows]).astype(np.float64)
    real = coding.transform(tables.holdout[real_rows]).astype(np.float64)
    patient_ids = tables.holdout_patient_ids[real_rows]
    rng = np.random.default_rng(seed + 23)
    synthetic_fold = rng.permutation(len(synthetic)) % 2
    real_fold = (rng.permutation(int(patient_ids.max()) + 1) % 2)[patient_ids]
    synthetic_score, real_score = np.empty((len(synthetic), 1)), np.empty((len(real), 1))
    for fold in (0, 1):
        x = np.concatenate([synthetic[synthetic_fold != fold], real[real_fold != fold]])
        y = np.repeat([1.0, 0.0], [(synthetic_fold != fold).sum(), (real_fold != fold).sum()])
        model = HistGradientBoostingClassifier(max_iter=60, early_stopping=False, random_state=seed).fit(x, y)
        synthetic_score[synthetic_fold == fold, 0] = model.predict_proba(synthetic[synthetic_fold == fold])[:, 1]
        real_score[real_fold == fold, 0] = model.predict_proba(real[real_fold == fold])[:, 1]
    auc = delong_auc(synthetic_score, real_score, None, patient_ids).intervals()[0]
    bounds = [abs(auc.low - 0.5), abs(auc.high - 0.5)]
    smallest = 0.0 if auc.low <= 0.5 <= auc.high else min(bounds)
    return Estimate(1 - 2 * abs(auc.value - 0.5), 1 - 2 * max(bounds), 1 - 2 * smallest, auc.n)
