"""Results that are text, such as ``positive`` or a blood group: the last text of a code that has few different ones, as a category.

A text is one of a code's categories where enough training subjects have it; all others, and those that are new, are ``other``. Numbers
among the texts are texts. Notes and other free text have too many different ones, and become no column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from nearward.tabular.events.code_columns import OTHER, CodeColumns
from nearward.tabular.events.reading import CODE, TEXT
from nearward.tabular.events.windowed_events import AGE, ROW

_MOST_TEXTS = 20
_MIN_TEXTS = 2
_MIN_SUBJECTS = 5  # of a text
_COVERED = 0.8  # share of the pairs of subjects and texts that the categories must make up
_LONGEST = 60  # characters
_COLUMN, _ORDER = "(column)", "(order)"


def _plain_text() -> pl.Expr:
    """Return the texts without blanks around them, null where they are empty or too long for a category."""
    text = pl.col(TEXT).str.strip_chars()
    return pl.when(text.str.len_chars().is_between(1, _LONGEST)).then(text).alias(TEXT)


def tally_texts(pairs: pl.DataFrame) -> pl.DataFrame:
    """Count the subjects with each text of each code; with a text of null those with any short text.

    Parameters
    ----------
    pairs : pl.DataFrame, one ``(row)`` a subject
    """
    texts = pairs.select(ROW, CODE, _plain_text()).drop_nulls().unique()
    each = texts.group_by(CODE, TEXT).agg(pl.len().alias("subjects"))
    some = texts.group_by(CODE).agg(pl.lit(None, dtype=pl.String).alias(TEXT), pl.col(ROW).n_unique().alias("subjects"))
    return pl.concat([each, some])


def choose_texts(tallies: Sequence[pl.DataFrame], min_subjects: int) -> dict[str, tuple[str, ...]]:
    """Return the categories of the codes that have few different texts.

    Parameters
    ----------
    tallies : of blocks of subjects, from ``tally_texts``
    min_subjects : int
        Subjects with a text that a code must have.
    """
    if not tallies:
        return {}
    counts = pl.concat(tallies).group_by(CODE, TEXT).agg(pl.col("subjects").cast(pl.Int64).sum())
    some = counts.filter(pl.col(TEXT).is_null(), pl.col("subjects") >= min_subjects).select(CODE)
    each = counts.drop_nulls(TEXT).join(some, on=CODE).sort([CODE, "subjects", TEXT], descending=[False, True, False])
    total = each.group_by(CODE).agg(pl.col("subjects").sum().alias("total"))
    frequent = each.filter(pl.col("subjects") >= min(_MIN_SUBJECTS, min_subjects)).group_by(CODE, maintain_order=True).head(_MOST_TEXTS)
    codes = frequent.group_by(CODE, maintain_order=True).agg(pl.col("subjects").sum(), TEXT).join(total, on=CODE)
    few = codes.filter(pl.col("subjects") >= _COVERED * pl.col("total"), pl.col(TEXT).list.len() >= _MIN_TEXTS)
    return {code: tuple(texts) for code, texts in few.select(CODE, TEXT).iter_rows()}


def last_texts(labels: pl.DataFrame, pairs: pl.DataFrame, codes: Mapping[str, CodeColumns]) -> tuple[list[pl.Series], int]:
    """Return the last text of each code, of equally late ones the first of the alphabet.

    Parameters
    ----------
    labels : pl.DataFrame, b rows with ``(row)``
    pairs : pl.DataFrame
        Labels and earlier events, with their texts.
    codes : by code, those with a column of texts

    Returns
    -------
    columns : one for each of the codes, b rows; null without a text
    unknown : int, events with a text that is none of the categories
    """
    rows = [(one.code, name, text) for name, one in codes.items() for text in one.texts]
    known = pl.DataFrame(rows, {CODE: pl.String, _COLUMN: pl.String, TEXT: pl.String}, orient="row")
    columns = known.select(CODE, _COLUMN).unique()
    texts = pairs.select(ROW, CODE, AGE, pl.col(TEXT).str.strip_chars()).filter(pl.col(TEXT) != "").join(columns, on=CODE)
    texts = texts.join(known.with_columns(pl.lit(value=True).alias(_ORDER)), on=[CODE, _COLUMN, TEXT], how="left")
    unknown = texts.get_column(_ORDER).null_count()
    category = pl.when(pl.col(_ORDER)).then(TEXT).otherwise(pl.lit(OTHER)).alias(TEXT)
    last = texts.with_columns(category).sort(AGE, TEXT).unique([ROW, _COLUMN], keep="first", maintain_order=True)
    filled = []
    for name in codes:
        values = labels.select(ROW).join(last.filter(pl.col(_COLUMN) == name).select(ROW, TEXT), on=ROW, how="left", maintain_order="left")
        filled.append(values.get_column(TEXT).alias(name))
    return filled, unknown
