"""Reading of events: folders, shards, other names, zones, and files that cannot be used."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest

import nearward as nw
from nearward.tabular.errors import InputError
from nearward.tabular.events.reading import Events

NOON = datetime(2020, 1, 1, 12)


def events(*subjects: int) -> pl.DataFrame:
    data = {"subject_id": subjects, "time": [NOON] * len(subjects), "code": ["A"] * len(subjects), "numeric_value": [1.5] * len(subjects)}
    return pl.DataFrame(data, {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float32})


def write(folder: Path, **shards: pl.DataFrame) -> Path:
    for name, frame in shards.items():
        path = folder / "data" / "train" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path)
    return folder


def test_a_meds_folder_with_metadata(tmp_path: Path) -> None:
    folder = write(tmp_path, a=events(1, 2), b=events(2, 3), c=events())
    (folder / "metadata").mkdir()
    codes = pl.DataFrame({"code": ["A", "A"], "description": ["Lactate", "again"], "parent_codes": [["LAB"], None], "other": [1, 2]})
    codes.write_parquet(folder / "metadata" / "codes.parquet")
    pl.DataFrame({"subject_id": [1], "split": ["train"]}).write_parquet(folder / "metadata" / "subject_splits.parquet")
    (folder / "labels").mkdir()
    pl.DataFrame({"subject_id": [1]}).write_parquet(folder / "labels" / "no_events.parquet")
    read = nw.read_events(folder)
    assert len(read.parts) == 3
    assert read.frame.collect().height == 4
    assert read.codes.rows() == [("A", "Lactate", ["LAB"], None)]
    assert read.splits is not None
    assert read.splits.height == 1
    assert nw.read_events(folder / "data").codes.height == 1
    assert nw.read_events(read) is read


def test_the_schema_of_meds_has_no_numbers_where_there_are_none_and_no_dtypes_where_a_file_is_empty(tmp_path: Path) -> None:
    """``numeric_value`` is optional in MEDS 0.4; columns of its own may stand beside; an empty table may be written without dtypes."""
    claims = events(1, 2).drop("numeric_value").with_columns(pl.lit(7).alias("visit_id"), pl.col("time").dt.replace_time_zone("UTC"))
    nothing = pl.DataFrame({"subject_id": [], "time": [], "code": []})
    facts = claims.head(1).with_columns(pl.lit(None).alias("time"), pl.lit("SEX//F").alias("code"))
    read = nw.read_events(write(tmp_path, a=claims, b=nothing, c=facts))
    assert read.frame.collect().schema == {
        "subject_id": pl.Int64,
        "time": pl.Datetime("us"),
        "code": pl.String,
        "numeric_value": pl.Float64,
    }
    assert (read.zoned, read.frame.collect().height) == (True, 3)
    assert nw.read_events(nothing).frame.collect().height == 0
    labels = pl.DataFrame({"subject_id": [1, 2], "prediction_time": [NOON, NOON]}).with_columns(
        pl.col("prediction_time").dt.replace_time_zone("UTC") + pl.duration(hours=1)
    )
    assert nw.EventFeatures(min_subjects=1).fit(read, labels).transform(read, labels)["SEX//F: seen"].to_list() == [1.0, 0.0]


def test_one_file_a_lazy_frame_and_other_names(tmp_path: Path) -> None:
    long = events(1, 2).rename({"subject_id": "stay", "numeric_value": "value"}).with_columns(pl.col("code").cast(pl.Categorical))
    long.write_parquet(tmp_path / "events.parquet")
    long.with_columns(pl.col("code").cast(pl.String)).write_csv(tmp_path / "events.csv")
    names = {"subject_id": "stay", "numeric_value": "value"}
    expected = nw.read_events(events(1, 2)).frame.collect()
    assert nw.read_events(tmp_path / "events.parquet", names).frame.collect().equals(expected)
    assert nw.read_events(tmp_path / "events.csv", names).frame.collect().equals(expected)
    assert nw.read_events(long.lazy(), names).frame.collect().equals(expected)
    with pytest.raises(InputError, match=r"'time' must be dates or date-times, got String"):
        nw.read_events(long.with_columns(pl.col("time").cast(pl.String)), names)


def test_times_with_a_zone_are_utc_and_a_date_ends_its_day() -> None:
    berlin = events(1).with_columns(pl.col("time").dt.replace_time_zone("Europe/Berlin"))
    assert nw.read_events(berlin).frame.collect()["time"].item() == datetime(2020, 1, 1, 11)
    assert nw.read_events(berlin).zoned
    dated = nw.read_events(events(1).with_columns(pl.lit(date(2020, 1, 1)).alias("time"))).frame.collect()
    assert dated["time"].item() == datetime(2020, 1, 1, 23, 59, 59, 999999)


def test_events_of_subjects_are_in_order(tmp_path: Path) -> None:
    later = events(2).with_columns(pl.col("time") + pl.duration(hours=1), pl.lit("B").alias("code"))
    folder = write(tmp_path, a=pl.concat([later, events(1, 3)]), b=events(2))
    found = nw.read_events(folder).of_subjects(pl.Series([2, 2, 9]))
    assert found["code"].to_list() == ["A", "B"]
    assert nw.read_events(folder).of_subjects(pl.Series([], dtype=pl.Int64)).height == 0


def test_blocks_hold_whole_subjects_once(tmp_path: Path) -> None:
    folder = write(tmp_path, a=events(1, 1, 2, 5, 5, 5), b=events(2, 3, 4, 1), c=events())
    subjects = pl.Series("subject_id", [5, 1, 1, 2, 3, 7])
    blocks = list(nw.read_events(folder).blocks(subjects, max_events=4))
    assert len(blocks) > 1
    owners = [set(block["subject_id"].unique()) for block in blocks]
    assert sorted(subject for block in owners for subject in block) == [1, 2, 3, 5]
    assert pl.concat(blocks)["subject_id"].value_counts(sort=True).sort("subject_id")["count"].to_list() == [3, 2, 1, 3]
    assert [block["subject_id"].n_unique() for block in nw.read_events(folder).blocks(subjects, max_labels=1)] == [1, 1, 1, 1]


def test_subjects_that_are_text_and_events_without_a_subject() -> None:
    text = events(1, 2).with_columns(pl.Series("subject_id", ["p1", None]))
    assert nw.read_events(text).frame.collect()["subject_id"].to_list() == ["p1"]


def test_a_shard_that_is_cut_off_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, a=events(1), b=events(*range(5000)))
    path = folder / "data" / "train" / "b.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"b\.parquet cannot be read as events .*cut off or damaged"):
        nw.read_events(folder)
    path.write_bytes(whole[:40] + bytes(len(whole) // 2) + whole[40 + len(whole) // 2 :])  # the footer is whole, the pages are not
    read = nw.read_events(folder)
    with pytest.raises(InputError, match=r"b\.parquet cannot be read as events .*cut off or damaged"):
        read.of_subjects(pl.Series(range(5000)))


@pytest.mark.parametrize(
    ("frame", "columns", "message"),
    [
        (
            events(1).rename({"numeric_value": "value"}),
            None,
            r"columns missing.*'numeric_value'.*columns=\{'numeric_value': 'value'\} \(--columns numeric_value=value\)",
        ),
        (events(1), {"numeric_value": "valeu"}, "'valeu'"),
        (events(1), {"patient": "subject_id"}, r"columns may name .* got \['patient'\]"),
        (events(1).with_columns(pl.col("subject_id").cast(pl.Float64)), None, "'subject_id' must be whole numbers or text, got Float64"),
        (events(1).with_columns(pl.col("numeric_value").cast(pl.String)), None, "'numeric_value' must be Float64, got String"),
    ],
)
def test_columns_that_cannot_be_used(frame: pl.DataFrame, columns: dict[str, str] | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nw.read_events(frame, columns)


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no Parquet files: .* OMOP, FHIR and MIMIC are converted first"):
        nw.read_events(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        nw.read_events(tmp_path / "absent.parquet")
    with pytest.raises(InputError, match="absent: no such file or folder"):
        nw.read_events(tmp_path / "absent")
    zoned = events(1).with_columns(pl.col("time").dt.replace_time_zone("UTC"))
    with pytest.raises(InputError, match="some files have times with a zone"):
        nw.read_events(write(tmp_path / "zones", a=zoned, b=events(1)))
    with pytest.raises(InputError, match="text in others"):
        nw.read_events(write(tmp_path / "text", a=events(1), b=events(1).with_columns(pl.lit("p").alias("subject_id"))))


def test_the_real_demo_of_mimic(cohort_folder: Path) -> None:
    path = cohort_folder.parent / "events" / "mimic_demo" / "events.parquet"
    if not path.is_file():
        pytest.skip(f"no events in {path}")
    read = nw.read_events(path, {"numeric_value": "value"})
    subjects = read.frame.select(pl.col("subject_id").unique().sort()).collect()["subject_id"]
    last = read.frame.group_by("subject_id").agg(pl.col("time").max().alias("prediction_time")).sort("subject_id").collect()
    features = nw.EventFeatures(min_subjects=30, max_columns=400).fit(read, last[:80])
    made, counts = features.transform_counted(read, last[80:])
    assert isinstance(read, Events)
    assert len(subjects) == 100
    assert made.height == 20
    assert made.width > 300
    assert {"Age", "GENDER//F: seen"} <= set(made.columns)
    assert made.select(pl.col("Age").is_between(15, 100).all()).item()
    assert counts.unknown_codes > 0


def test_the_folder_above_a_meds_folder_is_refused_and_the_right_one_named(tmp_path: Path) -> None:
    for name in ("data", "metadata"):
        (tmp_path / "MEDS_cohort" / name).mkdir(parents=True)
    (tmp_path / "pre_MEDS").mkdir()
    pl.DataFrame({"person_id": [1]}).write_parquet(tmp_path / "pre_MEDS" / "person.parquet")
    with pytest.raises(InputError, match=r"is no MEDS folder, but .*MEDS_cohort is: give that one"):
        nw.read_events(tmp_path)
