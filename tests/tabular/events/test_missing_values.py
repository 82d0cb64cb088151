"""Numbers that mean unknown: as if there were none, of all codes or of some; a mark that nobody named is warned of."""

from __future__ import annotations

import warnings
from datetime import datetime, timedelta

import polars as pl
import pytest

import nearward as nw
from nearward.tabular.errors import DataWarning

MOMENT = datetime(2020, 1, 2)
LABELS = pl.DataFrame({"subject_id": range(20), "prediction_time": MOMENT})


def heights(unknown: float | None) -> pl.DataFrame:
    """Heights, unknown of every fourth subject, and base excesses, which may be -1."""
    rows = []
    for who in range(20):
        rows.append((who, "Height", unknown if who % 4 == 0 else 150.0 + who))
        rows += [(who, code, float((who + hour) % 5 - 3)) for hour in range(3) for code in ("BE//art", "BE//ven")]
    table = pl.DataFrame(rows, {"subject_id": pl.Int64, "code": pl.String, "numeric_value": pl.Float64}, orient="row")
    return table.with_columns(time=pl.lit(MOMENT) - pl.duration(minutes=pl.int_range(1, pl.len() + 1)))


@pytest.mark.parametrize("missing", [{"Height": -1}, {"Hei*": [-9, -1.0]}])
def test_a_number_that_means_unknown_is_as_none(missing: dict[str, object]) -> None:
    features = nw.EventFeatures(min_subjects=5, missing=missing).fit(heights(-1), LABELS)  # type: ignore[arg-type]
    nothing = nw.EventFeatures(min_subjects=5).fit(heights(None), LABELS)
    assert features.vocabulary_ == nothing.vocabulary_
    made, counts = features.transform_counted(heights(-1), LABELS)
    expected, _ = nothing.transform_counted(heights(None), LABELS)
    assert made.equals(expected)
    assert made["Height"].null_count() == counts.missing_values == 5
    assert (made["BE//art: min"] == -1).any()


def test_of_all_codes_and_by_what_stands_before_the_slashes(tmp_path) -> None:
    every = nw.EventFeatures(min_subjects=5, missing=[-1]).fit(heights(-1), LABELS)
    table = every.transform(heights(-1), LABELS)
    assert not any((table[name] == -1).any() for name in ("Height", "BE//art: min", "BE//ven: last"))
    gas = nw.EventFeatures(min_subjects=5, missing={"BE": -1}).fit(heights(-1), LABELS)
    made = gas.transform(heights(-1), LABELS)
    assert (made["Height"] == -1).sum() == 5
    assert not any((made[name] == -1).any() for name in ("BE//art: last", "BE//ven: last"))
    gas.save(tmp_path / "f")
    assert nw.EventFeatures.load(tmp_path / "f").transform(heights(-1), LABELS).equals(made)


def test_a_mark_that_repeats_below_all_other_numbers_is_warned_of() -> None:
    with pytest.warns(DataWarning, match=r"numbers of 'Height' \(-1\) are 0 or more.*--missing 'Height=-1'"):
        nw.EventFeatures(min_subjects=5).fit(heights(-1), LABELS)
    with pytest.warns(DataWarning, match="missing= names numbers that no training event has"):
        nw.EventFeatures(min_subjects=5, missing={"Heigth": -1}).fit(heights(None), LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        nw.EventFeatures(min_subjects=5).fit(heights(None), LABELS)


def test_timelines_do_not_show_unknown_numbers(ward_model) -> None:
    events, labels, fitted, folder = ward_model
    assert fitted.features_.missing is None
    model = nw.load(folder)
    moment = labels["prediction_time"][120]
    far = pl.DataFrame({"subject_id": [labels["subject_id"][120]], "time": [moment - timedelta(minutes=1)], "code": ["Creatinine"]})
    wrong = pl.concat([events, far.with_columns(numeric_value=pl.lit(-1.0)).cast(dict(events.schema))])
    model.features_.missing = [-1]
    assert model._choose_timelines(nw.read_events(wrong), labels[120:121]).equals(
        model._choose_timelines(nw.read_events(events), labels[120:121])
    )
