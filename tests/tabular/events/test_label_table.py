"""Labels: dtypes, zones, duplicates, contradictions."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest

import nearward as nw
from nearward.tabular.errors import InputError
from nearward.tabular.events.label_table import read_labels

MOMENT = datetime(2020, 1, 1)
EVENTS = pl.DataFrame({"subject_id": [1], "time": [MOMENT], "code": ["A"], "numeric_value": [1.0]})
LABELS = pl.DataFrame({"subject_id": [2, 1], "prediction_time": [MOMENT] * 2, "boolean_value": [1, None], "ward": ["a", "b"]})


def test_order_and_other_columns_stay(tmp_path: Path) -> None:
    LABELS.rename({"subject_id": "stay"}).write_parquet(tmp_path / "labels.parquet")
    read = read_labels(tmp_path / "labels.parquet", nw.read_events(EVENTS), {"subject_id": "stay"})
    assert read.rows() == [(2, MOMENT, True, "a"), (1, MOMENT, None, "b")]


def test_a_date_is_its_midnight_and_zones_become_utc() -> None:
    dated = LABELS.with_columns(pl.lit(date(2020, 1, 1)).alias("prediction_time"))
    assert read_labels(dated.lazy(), nw.read_events(EVENTS))["prediction_time"].to_list() == [MOMENT] * 2
    events = nw.read_events(EVENTS.with_columns(pl.col("time").dt.replace_time_zone("UTC")))
    zoned = LABELS.with_columns(pl.col("prediction_time").dt.replace_time_zone("America/New_York"))
    assert read_labels(zoned, events)["prediction_time"][0] == datetime(2020, 1, 1, 5)
    with pytest.raises(InputError, match="the events have a time zone and the prediction times have none"):
        read_labels(LABELS, events)
    with pytest.raises(InputError, match="the prediction times have a time zone and the events have none"):
        read_labels(zoned, nw.read_events(EVENTS))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS.drop("prediction_time"), "columns missing"),
        (LABELS.with_columns(pl.lit(None, dtype=pl.Datetime).alias("prediction_time")), "'prediction_time' of the labels has 2 missing"),
        (LABELS.with_columns(pl.col("subject_id").cast(pl.String)), "String in the labels and whole numbers in the events"),
        (LABELS.with_columns(boolean_value=pl.lit("yes")), "'boolean_value' must be true or false, got String"),
        (LABELS.with_columns(boolean_value=pl.Series([1, 2])), "'boolean_value' must be true or false, got Int64"),
        (LABELS.with_columns(subject_id=pl.lit(1), boolean_value=pl.Series([1, 0])), "1 subjects and times have both outcomes"),
    ],
)
def test_what_cannot_be_used(labels: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labels(labels, nw.read_events(EVENTS))
