"""Texts as categories: which codes get a column, what stands in it, and what never does."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

import nearward as nw

MOMENT = datetime(2020, 1, 2)
LABELS = pl.DataFrame({"subject_id": range(40), "prediction_time": MOMENT})


def events(rows: list[tuple[int, float | None, str, str | None]]) -> pl.DataFrame:
    data = [(who, None if age is None else MOMENT - timedelta(hours=age), code, None, text) for who, age, code, text in rows]
    schema = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float64, "text_value": pl.String}
    return pl.DataFrame(data, schema, orient="row")


TRAINING = events(
    [
        *((who, None, "Blood group", ("A", "B", "O", "AB")[who % 4]) for who in range(40)),
        *((who, age, "Culture", ("negative", "positive")[(who + age) % 2]) for who in range(30) for age in (2, 5)),
        *((who, 5, "Culture", "contaminated") for who in range(3)),  # too few subjects for a category
        *((who, 3, "Note", f"Patient {who} was seen, and again") for who in range(40)),
        *((who, 3, "Consent", "yes") for who in range(40)),  # says no more than that it was asked for
        *((who, 3, "Long", "x" * (90 + who % 2)) for who in range(40)),
    ]
)


def test_few_different_texts_become_a_category_and_notes_do_not() -> None:
    features = nw.EventFeatures(min_subjects=10).fit(TRAINING, LABELS)
    categories = {column.name: column.categories for column in features.schema_.columns if column.kind == "category"}
    assert categories == {"Culture: last text": ("negative", "other", "positive"), "Blood group": ("A", "AB", "B", "O", "other")}
    made = features.transform(TRAINING, LABELS)
    assert made["Blood group"].to_list() == ["A", "B", "O", "AB"] * 10
    assert made["Culture: last text"].to_list() == ["negative", "positive"] * 15 + [None] * 10


def test_new_texts_are_other_and_counted_and_ties_do_not_depend_on_order() -> None:
    features = nw.EventFeatures(min_subjects=10).fit(TRAINING, LABELS)
    new = events([(0, 1, "Culture", "POSITIVE"), (1, 1, "Culture", "positive"), (1, 1, "Culture", "negative "), (2, 1, "Culture", "  ")])
    for rows in (new, new[::-1]):
        made, counts = features.transform_counted(rows, LABELS[:3])
        assert made["Culture: last text"].to_list() == ["other", "negative", None]
        assert counts.unknown_texts == 1
    without = features.transform(new.drop("text_value"), LABELS[:3])
    assert without["Culture: last text"].null_count() == 3


def test_the_column_counts_among_max_columns() -> None:
    wide = nw.EventFeatures(min_subjects=10, max_columns=4).fit(TRAINING, LABELS)
    assert len([column for column in wide.schema_.columns if column.kind != "list" and column.block != "time"]) == 4
