"""A made-up ward of two hospitals whose true risks are known: rows to try things on that look like the job, and belong to nobody.

Shapes: n stays, p patients, c codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from nearward.tabular.errors import InputError
from nearward.tabular.typing import Bools, Floats

_FIRST_DAY = date(2022, 1, 1)
_DAYS = 3 * 365
_STAYS_OF_A_PATIENT = 1.35  # mean
_INTERCEPT = -5.95  # for about 4 % deaths
# code: share of the patients or stays, effect on the log-odds of death
_CHRONIC = {
    "I10": (0.40, 0.0), "E11": (0.22, 0.0), "I50": (0.14, 0.5), "J44": (0.12, 0.3), "N18": (0.10, 0.3), "F03": (0.06, 0.5),
    "C78": (0.03, 1.4), "K74": (0.02, 0.8), "Z94": (0.012, 0.0), "M81": (0.05, 0.0), "E78": (0.25, -0.1), "F32": (0.08, 0.0),
}  # fmt: skip
_ACUTE = {
    "J18": (0.12, 0.4), "A41": (0.035, 1.1), "I63": (0.05, 0.5), "I61": (0.008, 1.7), "S72": (0.06, 0.2), "K92": (0.04, 0.4),
    "N39": (0.09, 0.0), "I21": (0.05, 0.6), "K80": (0.06, -0.6), "R55": (0.05, -0.8), "T81": (0.03, 0.0), "I26": (0.015, 0.9),
}  # fmt: skip


@dataclass(frozen=True)
class SimulatedWard:
    """The rows of ``ward`` and their truth.

    Parameters
    ----------
    table : pl.DataFrame, n rows
        With ``stay`` (id), ``patient``, ``hospital``, ``admitted`` and the outcome ``died`` beside the features.
    true_risk : pl.Series of float, (n,)
        The probability with which ``died`` was drawn. It knows the values that the table lacks, so no model reaches it.
    """

    table: pl.DataFrame
    true_risk: pl.Series


def ward(n: int = 5000, seed: int = 0) -> SimulatedWard:
    """Simulate the stays of a ward in two hospitals, with deaths in hospital (about 4 %) as the outcome.

    What it contains, so that a comparison on it can be judged: about three quarters as many patients as stays, so patients repeat, with
    their own frailty (log-odds of .3 standard deviations) that no column states; numbers, categories, codes as numbers
    (``admission_type_id``), lists of diagnoses, dates. Effects on the log-odds are linear (age, albumin, creatinine, diagnoses), U-shaped
    (temperature, sodium), with a threshold (respiratory rate, lactate, systolic pressure), and of combinations: lactate with low pressure;
    anticoagulants with few platelets; CRP, which says nothing under immunosuppression; a low lymphocyte count after transplantation, in one
    patient of eighty. Lactate is measured where the staff suspects something, albumin less often in the south, where the assay also reads
    lower; blood counts are missing together. Half of the columns have gaps; several columns have no effect at all, or none beside
    another (diastolic pressure, urea, haematocrit).

    Parameters
    ----------
    n : int, stays
    seed : int
        The same seed and n give the same rows.

    Raises
    ------
    InputError
        Fewer than 1 stay.

    Examples
    --------
    >>> simulated = ward(1000, seed=1)
    >>> simulated.table.height, simulated.table["hospital"].unique().sort().to_list()
    (1000, ['north', 'south'])
    >>> 0.02 < simulated.true_risk.mean() < 0.07
    True
    """
    if n < 1:
        raise InputError(f"n must be at least 1, got n={n}")
    rng = np.random.default_rng(seed)
    p = max(int(n / _STAYS_OF_A_PATIENT), 1)
    patient = rng.integers(0, p, n)
    frailty, hidden, birth = rng.normal(size=p)[patient], rng.normal(0, 0.3, p)[patient], rng.gamma(9, 2.4, p)[patient]
    woman, south = (rng.random(p) < 0.48)[patient], (rng.random(p) < 0.4)[patient]
    day = rng.integers(0, _DAYS, n)
    age = np.clip(94 - birth + frailty + day / 365, 18, 101)
    acute = rng.normal(size=n) + 0.3 * frailty  # how ill the patient is on admission; no column states it
    codes = {code: (rng.random(p) < share)[patient] for code, (share, _) in _CHRONIC.items()}
    codes |= {code: rng.random(n) < share * np.exp(0.5 * acute - 0.125) for code, (share, _) in _ACUTE.items()}
    suppressed = codes["Z94"] | (rng.random(p) < 0.05)[patient]
    anticoagulated = rng.random(n) < np.where(codes["I50"] | codes["I26"], 0.5, 0.12)

    infection = (codes["J18"] | codes["A41"] | codes["N39"]).astype(float)
    measured: dict[str, Floats] = {
        "heart_rate": rng.normal(84 + 9 * acute + 5 * infection, 13),
        "systolic": rng.normal(132 - 9 * acute - 8 * codes["A41"], 18),
        "respiratory_rate": rng.normal(17 + 2.2 * acute + 2 * codes["J18"], 3),
        "temperature": rng.normal(36.9 + 0.5 * infection, 0.6),
        "spo2": np.clip(rng.normal(96 - 1.3 * acute - 1.5 * codes["J44"], 2), 70, 100),
        "lactate": np.exp(rng.normal(0.35 + 0.32 * acute + 0.3 * codes["A41"], 0.4)),
        "crp": np.exp(rng.normal(2.4 + 0.4 * acute + 1.2 * infection * ~suppressed, 0.9)),
        "creatinine": np.exp(rng.normal(4.35 + 0.1 * acute + 0.5 * codes["N18"] + 0.004 * (age - 70), 0.3)),
        "sodium": rng.normal(138.5 - 1.0 * codes["I50"], 4.2),
        "haemoglobin": rng.normal(13.2 - 0.9 * woman - 0.4 * frailty - 1.8 * codes["K92"], 1.5),
        "platelets": np.exp(rng.normal(5.4 - 0.5 * codes["K74"], 0.4)),
        "lymphocytes": np.exp(rng.normal(0.4 - 0.4 * suppressed, 0.5)),
        "albumin": rng.normal(37 - 1.5 * acute - 1.5 * frailty, 3.5),
        "glucose": np.exp(rng.normal(1.9 + 0.35 * codes["E11"], 0.25)),
        "bmi": np.exp(rng.normal(3.27, 0.19, n)),
    }
    measured["diastolic"] = np.minimum(0.5 * measured["systolic"] + rng.normal(11, 6, n), measured["systolic"] - 8)
    measured["urea"] = np.exp(0.75 * np.log(measured["creatinine"]) - 1.4 + rng.normal(0, 0.18, n))
    measured["haematocrit"] = 2.95 * measured["haemoglobin"] + rng.normal(0, 0.9, n)
    logit = _log_odds(measured, codes, age, suppressed, anticoagulated) + 0.45 * frailty + hidden + 0.3 * south
    risk = 1 / (1 + np.exp(-logit))
    died = (rng.random(n) < risk).astype(np.int64)

    measured["albumin"] -= 2.0 * south  # another assay
    absent = _gaps(rng, acute, south)
    numbers = {
        name: pl.Series(name, np.where(absent.get(name, False), np.nan, values.round(_DECIMALS.get(name, 0)))).fill_nan(None)
        for name, values in measured.items()
    }
    names = np.array([*codes])
    coded = np.array([*codes.values()]).T  # (n, c)
    kind = np.where(codes["S72"] | codes["K80"] | codes["T81"], "surgical", np.where(rng.random(n) < 0.15, "geriatric", "medical"))
    table = pl.DataFrame(
        {
            "stay": [f"S{i:06d}" for i in range(n)],
            "patient": [f"P{i:06d}" for i in patient],
            "hospital": np.where(south, "south", "north").tolist(),
            "admitted": [_FIRST_DAY + timedelta(days=int(d)) for d in day],
            "age": np.floor(age).astype(np.int64),
            "sex": np.where(woman, "f", "m").tolist(),
            "admission_type_id": rng.choice([1, 2, 3, 5, 8], n, p=[0.55, 0.2, 0.15, 0.07, 0.03]),
            "unit": kind.tolist(),
            "previous_stays": rng.poisson(np.exp(0.3 * frailty)),
            "diagnoses": [names[row].tolist() for row in coded],
            "anticoagulant": anticoagulated,
            "immunosuppressed": suppressed,
            **numbers,
            "died": died,
        }
    )
    return SimulatedWard(table, pl.Series("true_risk", risk))


_DECIMALS = {
    "temperature": 1,
    "lactate": 1,
    "haemoglobin": 1,
    "haematocrit": 1,
    "urea": 1,
    "lymphocytes": 2,
    "albumin": 0,
    "glucose": 1,
    "bmi": 1,
}


def _log_odds(x: dict[str, Floats], codes: dict[str, Bools], age: Floats, suppressed: Bools, anticoagulated: Bools) -> Floats:
    """Return the log-odds of death that the columns account for, of shape (n,)."""
    effects = {code: effect for code, (_, effect) in (_CHRONIC | _ACUTE).items()}
    shock = 1 / (1 + np.exp((x["systolic"] - 100) / 6))
    high_lactate = np.maximum(np.log(x["lactate"] / 1.8), 0)
    score = 0.05 * (age - 70) - 0.07 * (x["albumin"] - 35) + 0.5 * (np.log(x["creatinine"]) - 4.4)
    score += np.minimum(0.45 * ((x["temperature"] - 37) / 0.8) ** 2, 2.5) + np.minimum(0.4 * ((x["sodium"] - 139) / 5) ** 2, 2.5)
    score += 0.12 * np.maximum(x["respiratory_rate"] - 20, 0) - 0.08 * np.minimum(x["spo2"] - 94, 0)
    score += 0.8 * high_lactate + 0.6 * shock + 2.2 * high_lactate * shock
    score += np.where(suppressed, 0.5, 0.35 * (np.log(x["crp"]) - 2.4))
    score += 1.6 * anticoagulated * (x["platelets"] < 130) + 2.5 * codes["Z94"] * (x["lymphocytes"] < 0.8)
    return np.asarray(_INTERCEPT + score + sum(effects[code] * present for code, present in codes.items()), dtype=float)


def _gaps(rng: np.random.Generator, acute: Floats, south: Bools) -> dict[str, Bools]:
    """Return which values of a column were not measured; lactate and albumin are not missing at random."""
    n = len(acute)
    counts = rng.random(n) < 0.08
    return {
        "lactate": rng.random(n) > 1 / (1 + np.exp(0.3 - 1.2 * acute)),
        "albumin": rng.random(n) < np.where(south, 0.55, 0.25),
        "crp": rng.random(n) < 0.15,
        "temperature": rng.random(n) < 0.04,
        "spo2": rng.random(n) < 0.04,
        "glucose": rng.random(n) < 0.3,
        "bmi": rng.random(n) < 0.4,
        **dict.fromkeys(("haemoglobin", "haematocrit", "platelets"), counts),
        "lymphocytes": counts | (rng.random(n) < 0.2),
    }
