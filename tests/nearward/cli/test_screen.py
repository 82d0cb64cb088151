"""``nearward screen``: the written ranking agrees with the printed recall, rows have their ids, errors are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 visits of 200 patients, six of them outliers with the event; and ten new rows, the last two outliers."""
    folder = tmp_path_factory.mktemp("screen")
    rng = np.random.default_rng(0)
    event = np.arange(400) < 6
    x = rng.normal(size=(400, 3)) + 5 * event[:, None]
    ids = {"visit": [f"v{i}" for i in range(400)], "patient": np.arange(400) // 2, "cancer": np.where(event, "yes", "no")}
    pl.DataFrame(x, schema=["a", "b", "c"]).with_columns(**{name: pl.Series(values) for name, values in ids.items()}).write_csv(
        folder / "cohort.csv"
    )
    new = rng.normal(size=(10, 3)) + 5 * (np.arange(10) >= 8)[:, None]
    pl.DataFrame(new, schema=["a", "b", "c"]).with_columns(visit=pl.Series([f"n{i}" for i in range(10)])).write_parquet(
        folder / "new.parquet"
    )
    return folder


def test_the_rows_of_the_table_are_ranked_and_the_recall_is_that_of_the_file(nearward: Any, place: Path) -> None:
    done = nearward(
        "screen", "cohort.csv", "--outcome", "cancer", "--group", "patient", "--id", "visit", "--budget", 0.1, "--out", "first.parquet",
        cwd=place,
    )  # fmt: skip
    ranked = pl.read_parquet(place / "first.parquet")
    assert ranked.columns == ["visit", "share", "alert", "cancer"]
    assert sorted(ranked["visit"]) == sorted(f"v{i}" for i in range(400))
    assert ranked["share"].is_sorted(descending=True)
    alerts = ranked.filter("alert")
    assert 39 <= alerts.height <= 41
    hits = (alerts["cancer"] == "yes").sum()
    assert hits >= 5
    assert f"{hits / 6:.3f} (" in done.stdout
    assert f"400 rows ranked in first.parquet, {alerts.height} of them" in done.stdout
    assert "logistic regression" in done.stdout


def test_new_rows_are_ranked_by_a_model_of_the_whole_table(nearward: Any, place: Path) -> None:
    nearward(
        "screen", "cohort.csv", "--outcome", "cancer", "--positive", "yes", "--group", "patient", "--drop", "visit", "--budget", 0.2,
        "--new", "new.parquet", "--out", "new.csv", cwd=place,
    )  # fmt: skip
    ranked = pl.read_csv(place / "new.csv")
    assert ranked.columns == ["row", "score", "share", "alert"]
    assert set(ranked["row"][:2]) == {8, 9}
    assert ranked["alert"].to_list() == [True, True] + [False] * 8
    assert (place / "new.csv").stat().st_mode & 0o777 == 0o600


def test_user_errors_are_one_line_and_write_nothing(nearward: Any, place: Path) -> None:
    words = ("screen", "cohort.csv", "--outcome", "cancer", "--out", "none.parquet")
    for more, message in (
        (("--group", "pateint"), "did you mean 'patient'"),
        (("--budget", 1.5), "budget must lie between 0 and 1"),
        (("--positive", "maybe"), "no row of the outcome has the value"),
        (("--id", "visit", "--new", "cohort.csv", "--out", "none.txt"), "none.txt"),
    ):
        done = nearward(*words, *more, cwd=place, code=2)
        assert message in done.stderr
        assert len([line for line in done.stderr.splitlines() if not line.startswith("note: ")]) == 1
    nearward("screen", "cohort.csv", "--outcome", "share", "--out", "none.parquet", cwd=place, code=2)
    assert not (place / "none.parquet").exists()
