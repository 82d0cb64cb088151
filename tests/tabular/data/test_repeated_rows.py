"""Warnings about rows and ids that repeat."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.datasets import read_cohort
from nearward.tabular.data.repeated_rows import warn_of_copies, warn_of_repeated_ids
from nearward.tabular.errors import DataWarning


def cohort(n: int = 200) -> tuple[pl.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"age": rng.normal(60, 9, n).round(1), "lactate": rng.normal(2, 1, n), "sex": rng.choice(["f", "m"], n)})
    return frame, (rng.random(n) < 0.2).astype(np.int64)


def test_rows_that_several_patients_share_are_counted() -> None:
    frame, outcome = cohort()
    four_times = pl.concat([frame] * 4)
    with pytest.warns(DataWarning, match="800 of 800 rows are identical to a row of another patient"):
        warn_of_copies(four_times, np.tile(outcome, 4), np.arange(800))
    events = np.flatnonzero(outcome)
    oversampled, labels = pl.concat([frame, frame[events]]), np.append(outcome, outcome[events])
    with pytest.warns(DataWarning, match=f"{2 * len(events)} of {200 + len(events)} rows are identical"):
        warn_of_copies(oversampled, labels, np.arange(len(labels)))


def test_copies_of_one_patient_coarse_tables_and_few_copies_are_not_warned_of() -> None:
    frame, outcome = cohort()
    rng = np.random.default_rng(1)
    coarse = pl.DataFrame({"sex": rng.integers(0, 2, 200), "smoker": rng.integers(0, 2, 200), "ward": rng.integers(0, 3, 200)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_copies(frame, outcome, np.arange(200))
        warn_of_copies(pl.concat([frame] * 4), np.tile(outcome, 4), np.tile(np.arange(200), 4))  # named in groups
        warn_of_copies(pl.concat([frame] * 2), np.append(outcome, 1 - outcome), np.arange(400))  # other outcomes
        warn_of_copies(coarse, outcome, np.arange(200))
        warn_of_copies(pl.concat([frame, frame[:4]]), np.append(outcome, outcome[:4]), np.arange(204))


def with_copies(frame: pl.DataFrame, outcome: np.ndarray, share: float = 0.1) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """Rows of a table and copies of some of them, each of a patient of its own."""
    rows = np.random.default_rng(0).choice(frame.height, int(share * frame.height), replace=False)
    return pl.concat([frame, frame[rows]]), np.append(outcome, outcome[rows]), np.arange(frame.height + len(rows))


def flags(n: int = 3000) -> tuple[pl.DataFrame, np.ndarray]:
    """Rare and dependent findings: most patients have none of them, and two in five the same row as another."""
    rng = np.random.default_rng(2)
    ill = rng.random(n) < 0.3
    frame = pl.DataFrame({f"f{j}": (rng.random(n) < np.where(ill, 0.25, 0.01)).astype(int) for j in range(20)})
    return frame.with_columns(decade=pl.Series(rng.integers(3, 10, n))), (rng.random(n) < 0.1 + 0.3 * ill).astype(np.int64)


def test_equal_rows_of_coarse_tables_are_chance_and_copies_among_them_are_not() -> None:
    frame, outcome = flags()
    equal = frame.with_columns(pl.Series("died", outcome)).is_duplicated()
    assert equal.mean() > 0.4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_copies(frame, outcome, np.arange(frame.height))
    with pytest.warns(DataWarning, match="of 3300 rows are identical to a row of another patient"):
        warn_of_copies(*with_copies(frame, outcome))


@pytest.mark.parametrize("n", [300, 5000])
def test_dummies_and_numbers_stored_twice_do_not_make_equal_rows_copies(n: int) -> None:
    """Rows that differ in one category differ in two dummies, and those that differ in a number differ in its double too."""
    rng = np.random.default_rng(0)
    grades = pl.DataFrame({f"c{k}": rng.integers(0, k, n) for k in (3, 4, 5, 6, 7)})
    outcome, nobody = (rng.random(n) < 0.1).astype(np.int64), np.arange(n)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_copies(grades.select(pl.all().cast(pl.String)).to_dummies(), outcome, nobody)
        warn_of_copies(grades.with_columns((pl.all() * 2 + 1).name.suffix(" doubled")), outcome, nobody)
        risk = pl.Series(np.where(outcome == 1, 0.6, 0.2))
        warn_of_copies(pl.DataFrame({"risk": risk, "odds": risk / (1 - risk)}), outcome, nobody)
        warn_of_copies(pl.DataFrame({"constant": [1] * n}), outcome, nobody)


def test_copies_are_told_by_one_exact_measurement_among_coarse_columns() -> None:
    frame, outcome = flags()
    exact = frame.with_columns(
        crp=pl.Series(np.random.default_rng(3).lognormal(size=frame.height)).set(pl.arange(0, 3000, eager=True) < 900, None)
    )
    with pytest.warns(DataWarning, match="of 3300 rows"):
        warn_of_copies(*with_copies(exact, outcome))


def test_rows_of_patients_with_several_are_copies_where_the_whole_patient_is_copied() -> None:
    """A patient's own rows are one column away from each other: that makes none of them a chance."""
    frame, outcome = cohort(100)
    stays = pl.concat([frame.with_columns(day=pl.lit(day)) for day in range(4)])
    patient = np.tile(np.arange(100), 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_copies(stays, np.tile(outcome, 4), patient)
    copied = np.isin(patient, np.arange(20))
    with pytest.warns(DataWarning, match="152 of 480 rows"):
        warn_of_copies(
            pl.concat([stays, stays.filter(pl.Series(copied))]),
            np.append(np.tile(outcome, 4), np.tile(outcome, 4)[copied]),
            np.append(patient, 1000 + patient[copied]),
        )


def test_columns_of_any_type_are_compared() -> None:
    frame, outcome = cohort()
    days = pl.Series("admitted", np.arange(200)).cast(pl.Date)
    mixed = frame.with_columns(
        days, pl.col("sex").cast(pl.Categorical), smoker=pl.lit(True), empty=pl.lit(None), codes=pl.lit(["I10"]), kg=pl.lit(float("nan"))
    )
    with pytest.warns(DataWarning, match="80 of 240 rows"):
        warn_of_copies(*with_copies(mixed, outcome, 0.2))


@pytest.mark.parametrize("name", ["brfss2015_diabetes", "cervical_cancer", "mammography", "thyroid0387"])
def test_real_coarse_tables_are_not_warned_of_and_copies_in_them_are(name: str, cohort_folder: Path) -> None:
    cohort = read_cohort(cohort_folder / f"{name}.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_copies(cohort.features, cohort.outcome, np.arange(cohort.features.height))
    with pytest.warns(DataWarning, match="are identical to a row of another patient"):
        warn_of_copies(*with_copies(cohort.features, cohort.outcome))


def test_a_fit_warns_of_copies() -> None:
    frame, outcome = cohort()
    model = nw.RiskClassifier(backbone=None, folds=2, encoder=nw.EncoderConfig(steps=5))
    with pytest.warns(DataWarning, match="figures on held-out rows are too good"):
        model.fit(pl.concat([frame] * 2), np.tile(outcome, 2))


# ---- ids -------------------------------------------------------------------------------------------------------------


def repeating(name: str, rows_each: int = 2, ids: int = 100) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame({name: [f"p{i}" for i in range(ids)] * rows_each, "x": rng.normal(size=ids * rows_each)})


@pytest.mark.parametrize("name", ["patient_nbr", "subject_id", "SubjectID", "mrn", "Patient ID", "person", "stay_id"])
def test_ids_that_repeat_are_named_with_their_counts(name: str) -> None:
    with pytest.warns(DataWarning, match=f"column '{name}' looks like ids and repeats: 100 different values in 200 rows"):
        warn_of_repeated_ids(repeating(name))


def test_codes_unique_ids_and_measurements_are_no_repeated_ids() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_repeated_ids(repeating("stay_id", rows_each=1))
        warn_of_repeated_ids(repeating("admission_type_id", rows_each=50, ids=8))
        warn_of_repeated_ids(repeating("discharge_disposition_id", rows_each=20, ids=26))
        warn_of_repeated_ids(pl.DataFrame({"patient_age": [1, 2] * 100, "fluid": [3, 4] * 100, "case_id": [0.5, 0.5] * 100}))


def test_estimators_warn_where_no_groups_are_given_and_not_where_they_are() -> None:
    frame = repeating("subject_id", ids=200)
    rng = np.random.default_rng(0)
    outcome = (frame["x"].to_numpy() + rng.normal(size=400) > 1.2).astype(int)
    models = {
        "RiskClassifier": nw.RiskClassifier(backbone=None, folds=2, encoder=nw.EncoderConfig(steps=2)),
        "Resampled": nw.Resampled(sampler=None, folds=2),
        "OneClass": nw.OneClass(steps=2),
    }
    for name, model in models.items():
        with pytest.warns(DataWarning, match="'subject_id' looks like ids and repeats"):
            model.fit(frame, outcome)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(frame, outcome, groups=frame["subject_id"])
        assert not [warning for warning in caught if "looks like ids" in str(warning.message)], name


def test_every_estimator_that_splits_rows_warns_of_copies() -> None:
    frame, outcome = cohort(150)
    four_times, labels = pl.concat([frame] * 4), np.tile(outcome, 4)
    for model in (nw.Resampled(sampler=None, folds=2), nw.OneClass(steps=2), nw.UnknownGate(steps=2), nw.StableColumns()):
        with pytest.warns(DataWarning, match="600 of 600 rows are identical"):
            model.fit(four_times, labels)


def test_the_synthesizer_warns_of_copies_and_repeated_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nearward.synth.synthesizer.fit_generator", stop)
    frame, outcome = cohort(150)
    table = pl.concat([frame.with_columns(died=pl.Series(outcome), patient=pl.int_range(150))] * 4)
    with pytest.warns(DataWarning) as caught, pytest.raises(KeyboardInterrupt):
        nw.Synthesizer().fit(table, outcome="died")
    messages = "".join(str(warning.message) for warning in caught)
    assert "600 of 600 rows are identical" in messages
    assert "'patient' looks like ids and repeats: 150 different values in 600 rows" in messages
