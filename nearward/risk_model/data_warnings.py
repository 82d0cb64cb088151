"""Warnings about the data: features that give the outcome away, a site that does, and new rows unlike the training rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import polars as pl

from nearward.risk_model.validation import FEWEST_EVENTS, FEWEST_IN_CLASS
from nearward.tabular.data.repeated_rows import warn_of_copies
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import DataWarning, InputError
from nearward.tabular.events.code_columns import list_counts
from nearward.tabular.preprocessing.code_encoding import MIN_ROWS, CodeListColumn
from nearward.tabular.preprocessing.feature_blocks import columns_by_block, missing_blocks
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Ints

_COMPLETE = 0.9  # share of rows with a value, from which on a column can equal the outcome
_UNIT_SLIP = 1000.0**0.5  # half of a factor of kilo or milli on the logarithmic scale: nearer to a slip than to the range
_SLIPS = 0.05  # share of a column's values, from which on the column is in another unit
_FEWEST_VALUES = 10
_MOST_STORED, _DISTINCT = 200_000, 0.9  # stored rows that new ones are compared with, and the share of them that must differ
_ANOMALIES = {
    "unit slips": "values far outside the training range (over 32 times), a slip of units?",
    "gaps": "missing, though no training patient missed it (read as usual, and novelty rises):",
    "unseen": "categories that no training patient had:",
    "unknown codes": f"lists without a single code that {MIN_ROWS} training rows had, in all of these rows (another coding system?):",
    "blocks": "a whole block of columns is missing in every row, and risks rest on the others (does this site not measure it?):",
}


def warn_of_leakage(frame: pl.DataFrame, rows: pl.DataFrame, schema: Schema, outcome: Ints, patient_ids: Ints, seed: int) -> None:
    """Warn of target leakage, of site leakage, of copies of rows in several patients, of few patients, and of lists of rare codes.

    Parameters
    ----------
    frame, rows : n rows, as passed to ``fit`` and conformed to the schema
    schema : Schema
    outcome : (n,), class numbers from 0
    patient_ids : (n,)
    seed : int
    """
    warn_of_target_leakage(rows, outcome)
    warn_of_copies(rows, outcome, patient_ids, stacklevel=4)
    _warn_of_few_patients(outcome, patient_ids)
    _warn_of_rare_codes(rows)
    for class_index in range(1, int(outcome.max()) + 1):
        _warn_of_site_leakage(frame, rows, schema, (outcome == class_index).astype(np.int64), patient_ids, seed)


def warn_of_target_leakage(frame: pl.DataFrame, outcome: Ints) -> None:
    """Warn of features that equal the outcome (class numbers from 0), or that are missing exactly where the event occurred or did not."""
    equals = _equals_event if outcome.max() < 2 else _equals_class
    leaking = [column.name for column in frame.iter_columns() if equals(column, outcome)]
    if leaking:
        message = f"features that equal the outcome: {leaking}. Known at the time of prediction? If not, drop them."
        warnings.warn(message, DataWarning, stacklevel=4)


def _warn_of_few_patients(outcome: Ints, patient_ids: Ints) -> None:
    """Warn where the rows with the event, or of one of several classes, are of hardly any patients: patients count, not their rows."""
    binary = outcome.max() < 2
    least = FEWEST_EVENTS if binary else FEWEST_IN_CLASS
    patients = np.bincount(np.unique(np.column_stack([outcome, patient_ids]), axis=0)[:, 0])
    fewest = int(patients[1:].min() if binary else patients.min())
    if fewest < least:
        warnings.warn(
            f"the rows with {'the event' if binary else 'one of the classes'} are of {fewest} patients: what else is special about them "
            f"may be learned in place of the outcome. Gather at least {least} such patients, or check that groups is the patient",
            DataWarning,
            stacklevel=4,
        )


def _warn_of_rare_codes(rows: pl.DataFrame) -> None:
    """Warn of lists in which no code is frequent enough to be learned from."""
    for series in rows.iter_columns():
        if isinstance(series.dtype, pl.List) and series.list.len().sum() and not CodeListColumn.fit(series).codes:
            codes = series.explode().drop_nulls().n_unique()
            warnings.warn(
                f"column {series.name!r}: each of its {codes} codes is in fewer than {MIN_ROWS} rows, so that only their number is used. "
                "Replace codes by their groups, such as the first three characters of ICD-10",
                DataWarning,
                stacklevel=4,
            )


def _equals_event(column: pl.Series, outcome: Ints) -> bool:
    event, present = outcome == 1, column.is_not_null().to_numpy()
    values = column.drop_nulls()
    agreements = [present == event]
    if present.mean() > _COMPLETE and not isinstance(column.dtype, pl.List) and values.n_unique() == 2:
        agreements.append((values == values[0]).to_numpy() == event[present])
    return any(agreement.all() or not agreement.any() for agreement in agreements)


def _equals_class(column: pl.Series, outcome: Ints) -> bool:
    if isinstance(column.dtype, pl.List):
        return False
    pairs = pl.DataFrame({"value": column, "class": outcome}).drop_nulls()
    return pairs.height > _COMPLETE * len(outcome) and pairs["value"].n_unique() == pairs.n_unique() == int(outcome.max()) + 1


def _warn_of_site_leakage(frame: pl.DataFrame, rows: pl.DataFrame, schema: Schema, outcome: Ints, patient_ids: Ints, seed: int) -> None:
    """Warn where the features predict the schema's site column and the site predicts the outcome: a model could learn the site instead."""
    from nearward.evaluation.risk.inputs import RiskSample
    from nearward.evaluation.risk.site_leakage import check_site_leakage

    for name in schema.named("site"):
        if name not in frame.columns or outcome.sum() < FEWEST_EVENTS:
            continue
        try:
            leakage = check_site_leakage(RiskSample(outcome.astype(float), {}, patient_ids), frame.get_column(name), rows, schema, seed)
        except InputError as error:  # a cohort of one site can still be fitted
            warnings.warn(f"not checked for a source leak: {error}", DataWarning, stacklevel=4)
            continue
        if leakage.leaks:
            warnings.warn(leakage.verdict(), DataWarning, stacklevel=4)


def warn_of_anomalies(rows: pl.DataFrame, schema: Schema, encoding: TableEncoder, lacking: Sequence[str] = ()) -> None:
    """Warn of the anomalies that ``count_anomalies`` counts, one warning for each kind; not of columns that a site is known to lack."""
    blocks = [block for block, names in columns_by_block(schema).items() if set(names) <= set(lacking)]
    for kind, anomalies in count_anomalies(rows, schema, encoding).items():
        counts = {name: count for name, count in anomalies.items() if name not in (blocks if kind == "blocks" else lacking)}
        if counts:
            warnings.warn(f"{_ANOMALIES[kind]} {list_counts(counts)}", DataWarning, stacklevel=4)


def warn_of_stored_rows(rows: pl.DataFrame, records: pl.DataFrame) -> None:
    """Warn where most conformed rows (q) are stored rows: their risks come from models and neighbours that know their outcomes.

    Coarse tables have identical rows by chance: they are not looked at, nor are few rows or very many stored ones.
    """
    names = [name for name, dtype in rows.schema.items() if name in records.columns and not dtype.is_nested()]
    if not names or rows.height < _FEWEST_VALUES or records.height > _MOST_STORED:
        return
    stored = records.select(names).hash_rows()
    if stored.n_unique() < _DISTINCT * len(stored):
        return
    known = int(rows.select(names).hash_rows().is_in(stored.implode()).sum())
    if known > rows.height / 2:
        warnings.warn(
            f"{known} of {rows.height} rows are identical to stored rows, whose outcomes the model knows: their risks are better than "
            "those of new patients. Evaluate a model on other patients, or read its figures out of fold (summary_, nearward inspect)",
            DataWarning,
            stacklevel=4,
        )


def count_anomalies(rows: pl.DataFrame, schema: Schema, encoding: TableEncoder) -> dict[str, dict[str, int]]:
    """Count values in conformed rows that no stored row has.

    Returns
    -------
    dict
        By kind, the number of rows by column: ``unit slips``; ``gaps``, missing where no stored row is; ``unseen`` categories;
        ``unknown codes``, lists of a column in which no row has a code of the model's; and ``blocks``, columns without a value in any
        row, by block. The last two only of ten rows or more. Zero counts are left out.
    """
    gaps = {name: int(missing.sum()) for name, missing in encoding.new_missing(rows).items()}
    many = rows.height >= _FEWEST_VALUES  # a patient without a single value or known code says nothing about the site
    blocks = dict.fromkeys(missing_blocks(rows, schema), rows.height) if many else {}
    return {
        "unit slips": unit_slips(rows, schema),
        "gaps": gaps,
        "unseen": encoding.unseen_categories(rows),
        "unknown codes": encoding.unknown_lists(rows) if many else {},
        "blocks": blocks,
    }


def refuse_other_units(rows: pl.DataFrame, schema: Schema) -> None:
    """Refuse a site's rows with a column in another unit: slips in 5 % of its values, or a median outside the training range.

    Raises
    ------
    InputError
        Names the columns.
    """
    present = {name: rows.get_column(name).drop_nulls() for name in rows.columns}
    slips = [name for name, count in unit_slips(rows, schema).items() if count > _SLIPS * len(present[name])]
    for column in schema.columns:
        values = present.get(column.name)
        if column.kind != "number" or values is None or len(values) < _FEWEST_VALUES or column.low is None or column.high is None:
            continue
        median = float(values.median())  # type: ignore[arg-type]
        if column.low < column.high and not column.low <= median <= column.high:
            slips.append(column.name)
    if slips:
        raise InputError(
            f"columns in another unit than the model's, or of another kind: {sorted(set(slips))}. The median lies outside the training "
            "range, or many values are over 32 times beyond it. Convert these columns, or drop them (risks then rest on the others)"
        )


def unit_slips(frame: pl.DataFrame, schema: Schema) -> dict[str, int]:
    """Count, for each number column of a conformed frame, the values that look a thousand times too large for the schema's range.

    A slip of a thousand times lands between the range's own width and a thousand times that: the limit is halfway, at 32 times.
    Also counted: a column of at least five values, all of them as much smaller than the schema's smallest absolute value (milligrams
    entered as grams).
    """
    counts, names = {}, set(frame.columns)
    for column in schema.columns:
        if column.name not in names or column.kind != "number" or column.low is None or column.high is None:
            continue
        greatest = max(abs(column.low), abs(column.high))
        size = frame.get_column(column.name).drop_nulls().abs()
        slips = int((size > _UNIT_SLIP * greatest).sum()) if greatest > 0 else 0
        least = min(abs(column.low), abs(column.high)) if column.low * column.high > 0 else 0.0
        if len(size) >= 5 and least > 0 and float(size.max()) * _UNIT_SLIP < least:  # type: ignore[arg-type]
            slips += len(size)
        if slips:
            counts[column.name] = slips
    return counts
