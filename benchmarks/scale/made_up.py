"""Made-up archives with known risks, as Parquet files of a million stays.

    .venv/bin/python -m benchmarks.scale.made_up FOLDER --rows 10000000

30 features of kinds that a registry has: numbers with gaps that say something, flags, counts, categories of up to 300 levels. A patient
has about 2.5 stays, spread over all files, and traits that all of them share; one of these no column states. Three hospitals. About 1.7 %
of the stays end with the outcome. It follows effects that are linear, U-shaped, have thresholds or are combinations, and the level of a
category.

``FOLDER/rows`` holds the table, ``FOLDER/truth`` the probability with which each outcome was drawn, and ``FOLDER/new`` and
``FOLDER/new-truth`` 100,000 stays of other patients. The same rows and seed give the same files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import expit, ndtri

from nearward.tabular.data.table_io import write_table
from nearward.tabular.typing import Bools, Floats, Ints

PART_ROWS = 1_000_000
NEW_ROWS = 100_000
_STAYS_OF_A_PATIENT = 2.5
_INTERCEPT = -6.15  # for about 1.7 % events
_DIAGNOSES, _PROCEDURES = 300, 40
_FIRST_NEW_PATIENT = 1 << 40


def make_archive(folder: Path, rows: int, seed: int = 0, part_rows: int = PART_ROWS, new_rows: int = NEW_ROWS) -> None:
    """Write an archive of ``rows`` stays, and ``new_rows`` stays of other patients."""
    patients = max(int(rows / _STAYS_OF_A_PATIENT), 1)
    for part, first in enumerate(range(0, rows, part_rows)):
        rng = np.random.default_rng([seed, part])
        n = min(part_rows, rows - first)
        _write(folder, "", part, first, rng.integers(0, patients, n), rng, seed)
    rng = np.random.default_rng([seed, 1 << 20])
    new = _FIRST_NEW_PATIENT + rng.integers(0, max(int(new_rows / _STAYS_OF_A_PATIENT), 1), new_rows)
    _write(folder, "new-", 0, _FIRST_NEW_PATIENT, new, rng, seed)


def _write(folder: Path, prefix: str, part: int, first: int, patient: Ints, rng: np.random.Generator, seed: int) -> None:
    table, risk = make_stays(patient, rng, seed)
    table = table.with_columns(pl.Series("died", (rng.random(len(risk)) < risk).astype(np.int8)))
    table.insert_column(0, pl.Series("stay", first + np.arange(len(risk))))
    for name, frame in (("new" if prefix else "rows", table), (f"{prefix}truth", pl.DataFrame({"risk": risk}))):
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_table(frame, folder / name / f"part-{part:04d}.parquet")


def make_stays(patient: Ints, rng: np.random.Generator, seed: int) -> tuple[pl.DataFrame, Floats]:
    """Return the stays of patients (n,), with 30 features, and their true risks (n,)."""
    n = len(patient)
    frailty, body, hidden = (_trait(patient, seed, i) for i in range(3))
    uniform = [_uniform(patient, seed, 10 + i) for i in range(9)]
    woman, site = uniform[0] < 0.52, (uniform[1] * 3).astype(np.int64)
    age = np.clip(72 - 14 * np.sqrt(-np.log(uniform[2])) + 18 * (uniform[2] - 0.3) + 4 * frailty + rng.normal(0, 0.5, n), 18, 102)
    diabetes, copd, heart, cancer = (u < share for u, share in zip(uniform[3:7], (0.22, 0.12, 0.15, 0.08), strict=True))
    renal, dementia = uniform[7] < 0.1, uniform[8] < 0.03 + 0.1 * (age > 80)
    acute = rng.normal(size=n) + 0.3 * frailty
    diagnosis = np.minimum((-np.log(rng.random(n)) * 45).astype(np.int64), _DIAGNOSES - 1)
    procedure = np.minimum((-np.log(rng.random(n)) * 8).astype(np.int64), _PROCEDURES - 1)
    infection = diagnosis % 7 == 0
    anticoagulant = rng.random(n) < np.where(heart, 0.5, 0.1)
    steroid = rng.random(n) < np.where(copd, 0.4, 0.05)
    numbers = {
        "heart_rate": 84 + 9 * acute + 6 * infection + rng.normal(0, 12, n),
        "systolic": 132 - 9 * acute - 6 * infection + rng.normal(0, 17, n),
        "diastolic": 76 - 4 * acute + rng.normal(0, 10, n),
        "respiratory_rate": 17 + 2.2 * acute + rng.normal(0, 3, n),
        "temperature": 36.9 + 0.5 * infection + rng.normal(0, 0.6, n),
        "spo2": np.clip(96 - 1.3 * acute - 1.5 * copd + rng.normal(0, 2, n), 65, 100),
        "lactate": np.exp(0.35 + 0.32 * acute + 0.3 * infection + rng.normal(0, 0.4, n)),
        "crp": np.exp(2.4 + 0.4 * acute + 1.2 * (infection & ~steroid) + rng.normal(0, 0.9, n)),
        "creatinine": np.exp(4.35 + 0.1 * acute + 0.5 * renal + 0.004 * (age - 70) + rng.normal(0, 0.3, n)),
        "sodium": 138.5 - heart + rng.normal(0, 4.2, n),
        "potassium": 4.2 + 0.2 * renal + rng.normal(0, 0.5, n),
        "haemoglobin": 13.2 - 0.9 * woman - 0.4 * frailty + rng.normal(0, 1.5, n),
        "platelets": np.exp(5.4 + rng.normal(0, 0.4, n)),
        "albumin": 37 - 1.5 * acute - 1.5 * frailty + rng.normal(0, 3.5, n) - 2 * (site == 2),
        "glucose": np.exp(1.9 + 0.35 * diabetes + rng.normal(0, 0.25, n)),
        "bmi": np.exp(3.27 + 0.17 * body + rng.normal(0, 0.02, n)),
    }
    risk = expit(
        _log_odds(numbers, age, frailty, hidden, infection & ~steroid, anticoagulant)
        + 0.5 * heart + 0.3 * copd + 1.0 * cancer + 0.5 * dementia + 0.25 * (site == 1)
        + 0.8 * ndtri(_uniform(diagnosis, seed, 40)) * (diagnosis < 60) + 0.4 * (procedure == 3)
    )  # fmt: skip
    table = pl.DataFrame(
        {
            "patient": patient,
            "hospital": pl.Series(site).replace_strict({0: "north", 1: "south", 2: "west"}),
            "age": np.floor(age).astype(np.int16),
            "sex": pl.Series(woman).replace_strict({True: "f", False: "m"}),
            "admission": pl.Series(rng.choice(4, n, p=[0.6, 0.25, 0.1, 0.05])).replace_strict(
                {0: "emergency", 1: "elective", 2: "transfer", 3: "other"}
            ),
            "diagnosis": _codes(diagnosis, "D"),
            "procedure": _codes(procedure, "P"),
            "previous_stays": rng.poisson(np.exp(0.3 * frailty)).astype(np.int16),
            "drugs": rng.poisson(np.exp(1.4 + 0.2 * frailty)).astype(np.int16),
            "diabetes": diabetes,
            "copd": copd,
            "heart_failure": heart,
            "cancer": cancer,
            "dementia": dementia,
            "anticoagulant": anticoagulant,
            "steroid": steroid,
            **{name: _measured(name, values, acute, site, rng) for name, values in numbers.items()},
        }
    )
    return table, risk


def _log_odds(x: dict[str, Floats], age: Floats, frailty: Floats, hidden: Floats, flagged: Bools, anticoagulant: Bools) -> Floats:
    shock = expit((100 - x["systolic"]) / 6)
    lactate = np.maximum(np.log(x["lactate"] / 1.8), 0)
    score = 0.05 * (age - 70) - 0.07 * (x["albumin"] - 35) + 0.5 * (np.log(x["creatinine"]) - 4.4) + 0.4 * frailty + 0.3 * hidden
    score += np.minimum(0.45 * ((x["temperature"] - 37) / 0.8) ** 2, 2.5) + np.minimum(0.4 * ((x["sodium"] - 139) / 5) ** 2, 2.5)
    score += 0.12 * np.maximum(x["respiratory_rate"] - 20, 0) - 0.08 * np.minimum(x["spo2"] - 94, 0)
    score += 0.8 * lactate + 0.6 * shock + 2.2 * lactate * shock
    score += 0.35 * (np.log(x["crp"]) - 2.4) * flagged + 1.6 * anticoagulant * (x["platelets"] < 130)
    return np.asarray(_INTERCEPT + score)


def _measured(name: str, values: Floats, acute: Floats, site: Ints, rng: np.random.Generator) -> pl.Series:
    """Return a measurement with its gaps, rounded as a laboratory does; lactate and albumin are not missing at random."""
    share = {"lactate": expit(0.3 - 1.2 * acute), "albumin": np.where(site == 2, 0.45, 0.75), "bmi": 0.4, "glucose": 0.3, "crp": 0.15}
    rounded = values.round(1 if np.median(values) < 50 else 0).astype(np.float32)
    rounded[rng.random(len(values)) < share.get(name, 0.05)] = np.nan
    return pl.Series(name, rounded).fill_nan(None)


def _codes(number: Ints, letter: str) -> pl.Series:
    levels = sorted(set(number.tolist()))
    return pl.Series(number).replace_strict(levels, [f"{letter}{level:03d}" for level in levels], return_dtype=pl.String)


def _uniform(key: Ints, seed: int, salt: int) -> Floats:
    """Return a number in (0, 1) that belongs to each key (n,): a patient's, in whatever file the stay lies."""
    with np.errstate(over="ignore"):
        start = np.uint64((seed * 1009 + salt) * 0x632BE59BD9B4E019 % 2**64)
        z = (key.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + start  # SplitMix64
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54


def _trait(key: Ints, seed: int, salt: int) -> Floats:
    """Return a normal number that belongs to each key (n,)."""
    return np.asarray(ndtri(_uniform(key, seed, salt)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    make_archive(args.folder, args.rows, args.seed)


if __name__ == "__main__":
    main()
