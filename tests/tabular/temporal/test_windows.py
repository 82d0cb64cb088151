"""Windows over repeated measurements: by hand, against a loop, and without leakage from the future."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from nearward.tabular.errors import InputError, MissingColumns
from nearward.tabular.temporal.windows import windows

LABS = pl.DataFrame(
    {
        "patient": ["a", "a", "a", "a", "b"],
        "hour": [4, 1, 3, 9, 2],
        "lactate": [5.0, 1.0, 2.0, 9.0, 7.0],
        "sodium": [None, 140, 142, 1, 139],
    }
)
rows = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.one_of(st.none(), st.integers(-5, 5))), min_size=0, max_size=25)


def table(of: list[tuple[int, int, int | None]]) -> pl.DataFrame:
    return pl.DataFrame(of, schema={"patient": pl.Int64, "hour": pl.Int64, "x": pl.Float64}, orient="row")


def by_loop(moment: tuple[int, int], measured: pl.DataFrame, span: int | None) -> dict[str, float | None]:
    """The same by plain Python, one moment at a time."""
    patient, hour = moment
    past = [(t, x) for w, t, x in measured.iter_rows() if w == patient and t < hour and x is not None]
    inside = [(t, x) for t, x in past if span is None or t >= hour - span]
    latest = max((t for t, _ in past), default=None)
    times, values = [t for t, _ in inside], [x for _, x in inside]
    slope = float(np.polyfit(times, values, 1)[0]) if len(set(times)) > 1 else None
    return {
        "x: last": None if latest is None else float(np.mean([x for t, x in past if t == latest])),
        "x: since": None if latest is None else float(hour - latest),
        "min": min(values, default=None),
        "max": max(values, default=None),
        "slope": slope,
        "count": len(values),
    }


def test_by_hand() -> None:
    moments = pl.DataFrame({"patient": ["a", "b", "a", "c"], "hour": [4, 3, 5, 5], "bed": [1, 2, 3, 4]})
    result = windows(moments, LABS, patient="patient", time="hour", values=["lactate"], spans=[None, 2])
    assert result.columns[:3] == ["patient", "hour", "bed"]
    assert result["bed"].to_list() == [1, 2, 3, 4]  # the rows in their order
    assert result["lactate: last"].to_list() == [2.0, 7.0, 5.0, None]  # what is measured at hour 4 is not labs at hour 4
    assert result["lactate: since"].to_list() == [1.0, 1.0, 1.0, None]
    assert result["lactate: slope"].to_list() == [0.5, None, pytest.approx(17 / 14), None]
    assert result["lactate: max"].to_list() == [2.0, 7.0, 5.0, None]
    assert result["lactate: count"].to_list() == [2, 1, 3, 0]
    assert result["lactate: min, 2"].to_list() == [2.0, 7.0, 2.0, None]  # the far end of the span belongs to it
    assert result["lactate: count, 2"].to_list() == [1, 1, 2, 0]
    assert result["lactate: slope, 2"].to_list() == [None, None, pytest.approx(3.0), None]


@settings(max_examples=25, deadline=None)
@given(measured=rows, moments=rows, span=st.sampled_from([None, 1, 4]))
def test_as_a_loop_would(measured, moments, span) -> None:
    labs, moments = table(measured), table(moments).drop("x")
    result = windows(moments, labs, patient="patient", time="hour", values=["x"], spans=[span])
    label = "" if span is None else f", {span}"
    for moment, row in zip(moments.iter_rows(), result.iter_rows(named=True), strict=True):
        for name, value in by_loop(moment, labs, span).items():
            got = row[name if name.startswith("x") else f"x: {name}{label}"]
            assert got == (None if value is None else pytest.approx(value, abs=1e-9)), name


@settings(max_examples=40, deadline=None)
@given(measured=rows, later=rows, hour=st.integers(0, 12), seed=st.integers(0, 99))
def test_no_window_reads_the_future(measured, later, hour, seed) -> None:
    """Measurements at or after a moment, and the order of the rows, do not change the moment's features."""
    query = pl.DataFrame({"patient": [0, 1, 2], "hour": [hour] * 3})
    future = table(later).with_columns(pl.col("hour") + hour)
    both = pl.concat([table(measured), future]).sample(fraction=1, shuffle=True, seed=seed)
    before, after = (windows(query, labs, patient="patient", time="hour", spans=[None, 3]) for labs in (table(measured), both))
    assert_frame_equal(before, after)


def test_a_window_reads_the_past() -> None:
    """Without this, the property above would hold for empty windows."""
    moments, labs = table([(0, 6, None)]).drop("x"), table([(0, 5, 1)])
    more = pl.concat([labs, table([(0, 4, 3)])])
    first, second = (windows(moments, rows, patient="patient", time="hour", spans=[3]) for rows in (labs, more))
    assert first["x: max, 3"].to_list() == [1.0]
    assert second["x: max, 3"].to_list() == [3.0]


@pytest.mark.parametrize("time", [date, datetime])
def test_dates_and_spans_as_text(time: type) -> None:
    days = [time(2020, 1, day) for day in (1, 2, 9)]
    labs = pl.DataFrame({"patient": [1, 1, 1], "day": days, "x": [1.0, 3.0, 9.0]})
    moments = pl.DataFrame({"patient": [1, 1], "day": [time(2020, 1, 9), time(2020, 1, 10)]})
    result = windows(moments, labs, patient="patient", time="day", spans=["7d", timedelta(hours=24)])
    assert result["x: since"].to_list() == [7 * 24, 24]
    assert result["x: slope, 7d"].to_list() == [None, None]
    assert result["x: count, 7d"].to_list() == [1, 1]
    assert result["x: last"].to_list() == [3.0, 9.0]
    whole = windows(moments, labs, patient="patient", time="day")
    assert whole["x: slope"].to_list() == pytest.approx([2 / 24, float(np.polyfit([0, 24, 192], [1, 3, 9], 1)[0])])


def test_slope_of_large_times() -> None:
    labs = pl.DataFrame({"patient": [1, 1, 1], "at": [10**15, 10**15 + 1, 10**15 + 2], "x": [1e9, 1e9 + 1, 1e9 + 2]})
    result = windows(pl.DataFrame({"patient": [1], "at": [10**15 + 9]}), labs, patient="patient", time="at", spans=[None, 20])
    assert result["x: slope"].to_list() == result["x: slope, 20"].to_list() == [pytest.approx(1.0)]


def test_lazy_in_lazy_out_and_by_streams(tmp_path: Path) -> None:
    LABS.write_parquet(tmp_path / "labs.parquet")
    moments = LABS.select("patient", "hour")
    lazy = windows(moments.lazy(), pl.scan_parquet(tmp_path / "labs.parquet"), patient="patient", time="hour", spans=[None, 3])
    assert isinstance(lazy, pl.LazyFrame)
    lazy.sink_parquet(tmp_path / "windows.parquet")
    whole = windows(moments, LABS, patient="patient", time="hour", spans=[None, 3])
    assert_frame_equal(pl.read_parquet(tmp_path / "windows.parquet"), whole)
    assert_frame_equal(lazy.collect(engine="streaming"), whole)


def test_missing_times_and_values() -> None:
    labs = pl.DataFrame({"patient": [1, 1, None], "hour": [None, 1, 1], "x": [1.0, float("nan"), 3.0]})
    moments = pl.DataFrame({"patient": [1, None, 1], "hour": [2, 2, None]})
    result = windows(moments, labs, patient="patient", time="hour", spans=[None, 5])
    assert result["x: last"].to_list() == [None] * 3
    assert result["x: count"].to_list() == result["x: count, 5"].to_list() == [0] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spans": ["6h"]}, "whole numbers"),
        ({"spans": [0]}, "from 1"),
        ({"spans": []}, "spans must be"),
        ({"values": ["patient"]}, "number columns"),
        ({"values": ["hour", "lactate"]}, "number columns"),
        ({"values": ["lactate", "lactate"]}, "each once"),
        ({"time": "lactate"}, "times must be"),
    ],
)
def test_refusals(arguments, message: str) -> None:
    with pytest.raises(InputError, match=message):
        windows(LABS, LABS, **{"patient": "patient", "time": "hour"} | arguments)


def test_refusals_of_columns() -> None:
    with pytest.raises(MissingColumns, match="'hours'"):
        windows(LABS, LABS, patient="patient", time="hours")
    with pytest.raises(InputError, match="overwritten"):
        windows(LABS.with_columns(pl.lit(1).alias("lactate: last")), LABS, patient="patient", time="hour")
    with pytest.raises(InputError, match="Polars frames"):
        windows(LABS.to_numpy(), LABS, patient="patient", time="hour")
    with pytest.raises(InputError, match="cast both to one dtype"):
        windows(LABS.with_columns(pl.lit(1).alias("patient")), LABS, patient="patient", time="hour")
    clock = LABS.with_columns(hour=pl.lit(datetime(2020, 1, 1, 9)))
    with pytest.raises(InputError, match=r"Datetime.* in the moments, Date in"):  # at nine the day is not over
        windows(clock, LABS.with_columns(hour=pl.lit(date(2020, 1, 1))), patient="patient", time="hour")
    dated = LABS.with_columns(hour=pl.lit(date(2020, 1, 1)))
    with pytest.raises(InputError, match="6 h"):
        windows(dated, dated, patient="patient", time="hour", spans=["6 h"])


def test_refusals_show_no_patient() -> None:
    patients = LABS.with_columns(pl.col("patient").cast(pl.Enum(LABS["patient"].unique())))
    with pytest.raises(InputError, match="'patient' is Enum in the moments and String in the measurements"):
        windows(patients, LABS, patient="patient", time="hour")
    with pytest.raises(InputError, match="'patient' as Enum in the moments, Enum in the measurements"):
        windows(patients, patients, patient="hour", time="patient")
