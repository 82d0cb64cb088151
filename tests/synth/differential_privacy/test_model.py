from __future__ import annotations

import datetime

import numpy as np
import polars as pl
import pytest

from nearward.synth.differential_privacy.model import _bounded, fit_private
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.errors import InputError


def clinic(n: int = 6000, seed: int = 0) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    ill = draw.random(n) < 0.3
    lactate = np.exp(draw.normal(0.2 + 1.0 * ill, 0.4)).round(2)
    return pl.DataFrame(
        {
            "ward": np.where(ill, draw.choice(["ICU", "medical"], n, p=[0.8, 0.2]), "medical").tolist(),
            "lactate": [None if hole else v for hole, v in zip(draw.random(n) < 0.2, lactate.tolist(), strict=True)],
            "visits": draw.poisson(3, n),
            "seen": [datetime.date(2020, 1, 1) + datetime.timedelta(days=int(day)) for day in draw.integers(0, 700, n)],
            "died": (draw.random(n) < np.where(ill, 0.5, 0.03)).astype(int),
        }
    )


def made(found, frame: pl.DataFrame, n: int = 4000) -> pl.DataFrame:
    tokens = found.policy.sample(np.full((n, frame.width), -1), seed=1)
    return found.tokens.decode(tokens, np.random.default_rng(2).random(tokens.shape), frame.schema)


def test_a_table_comes_out_like_it_went_in():
    frame = clinic()
    found = fit_private(frame, "died", None, epsilon=8.0, noise_seed=0)
    table = made(found, frame)
    assert table.schema == frame.schema
    assert abs(table["died"].mean() - frame["died"].mean()) < 0.02
    for one in (table, frame):  # relations, not margins alone
        rate = one.group_by("ward").agg(pl.col("died").mean()).sort("ward")["died"].to_list()
        assert rate[0] > 3 * rate[1]
    assert abs(table["lactate"].null_count() / 4000 - 0.2) < 0.04
    assert table["lactate"].median() == pytest.approx(frame["lactate"].median(), rel=0.15)
    assert table["visits"].mean() == pytest.approx(frame["visits"].mean(), rel=0.15)
    assert datetime.date(2019, 6, 1) < table["seen"].min()
    assert set(table["ward"].unique()) == {"ICU", "medical"}


@pytest.mark.parametrize("patients", [None, 3000])
def test_the_whole_budget_and_no_more_is_charged_whatever_the_table(patients):
    frame = clinic()
    patient = None if patients is None else np.arange(6000) % patients
    found = fit_private(frame, "died", patient, epsilon=3.0, noise_seed=1)
    epsilon, delta = found.ledger.spent()
    assert 2.5 < epsilon <= 3.0 * (1 + 1e-9)
    assert delta <= 1e-6 * (1 + 1e-9)
    assert found.ledger.rows_per_patient == (1 if patients is None else 2)
    again = fit_private(clinic(seed=5), "died", patient, epsilon=3.0, noise_seed=2)
    assert [(e.what, e.rho) for e in again.ledger.entries if "pair" not in e.what] == [
        (e.what, e.rho) for e in found.ledger.entries if "pair" not in e.what
    ]


def test_every_answer_goes_through_the_mechanisms(monkeypatch):
    """With the mechanisms' answers fixed, one row more changes nothing that comes out."""
    from nearward.synth.differential_privacy.mechanisms import Mechanisms

    def fit(frame: pl.DataFrame):
        kept = iter(answers) if answers else None

        def told(self, counts, rho, what):
            self.ledger = self.ledger.charge(what, rho)
            if kept is None:
                record.append(np.asarray(counts, dtype=float).copy())
                return record[-1]
            return next(kept)

        def chosen(self, scores, rho, what):
            return int(told(self, np.array([float(np.argmax(scores))]), rho, what)[0])

        def named(self, counts, rho, delta, what):
            answer = told(self, counts, rho, what)
            return answer > 50, answer

        monkeypatch.setattr(Mechanisms, "counts", told)
        monkeypatch.setattr(Mechanisms, "choose", chosen)
        monkeypatch.setattr(Mechanisms, "levels", named)
        return fit_private(frame, "died", None, epsilon=5.0)

    record: list[np.ndarray] = []
    answers: list[np.ndarray] = []
    frame = clinic()
    first = fit(frame)
    answers = record
    strange = frame[:1].with_columns(visits=pl.lit(7, dtype=pl.Int64), lactate=pl.lit(900.0))
    second = fit(pl.concat([frame, strange]))
    assert made(first, frame).equals(made(second, frame))


def test_a_lone_extreme_and_a_lone_level_are_not_published():
    frame = clinic()
    odd = frame[:1].with_columns(lactate=pl.lit(1e6), ward=pl.lit("Mars"))
    found = fit_private(pl.concat([frame, odd]), "died", None, epsilon=5.0, noise_seed=3)
    assert found.tokens.column_tokenizers[1].high.max() < 100 or np.nanmax(found.tokens.column_tokenizers[1].high) < 100
    assert "Mars" not in found.tokens.column_tokenizers[0].categories


def test_declared_ranges_and_levels_cost_nothing_and_bound_what_comes_out():
    public = Schema((Column("ward", kind="category", categories=("ICU", "medical", "surgical")), Column("visits", low=0, high=5)))
    frame = clinic()
    found = fit_private(frame, "died", None, epsilon=5.0, public=public, noise_seed=4)
    what = [entry.what for entry in found.ledger.entries]
    assert "levels of 'ward'" not in what
    assert "range of 'visits'" not in what
    assert "range of 'lactate'" in what
    assert made(found, frame)["visits"].is_between(0, 5).all()


def test_noise_hangs_on_no_seed():
    frame = clinic(2000).select("visits", "died")
    first, second = (fit_private(frame, "died", None, epsilon=1.0) for _ in range(2))
    assert not all(np.array_equal(a, b) for a, b in zip(first.policy.tables, second.policy.tables, strict=True))


def test_too_few_rows_or_no_budget_is_refused():
    with pytest.raises(InputError, match="at least 50 rows"):
        fit_private(clinic(300), "died", None, epsilon=5.0, noise_seed=0)
    for epsilon in (0.0, -1.0):
        with pytest.raises(InputError, match="epsilon"):
            fit_private(clinic(), "died", None, epsilon=epsilon)


def test_no_patient_gives_more_rows_than_allowed():
    patient = np.array([0] * 10 + [1] * 2 + [2])
    kept = _bounded(patient, 3)
    assert np.bincount(patient[kept]).tolist() == [3, 2, 1]
    assert (np.diff(kept) > 0).all()


def test_one_patient_more_changes_no_other_patients_rows():
    draw = np.random.default_rng(8)
    patient = draw.integers(0, 100, 400)
    more = np.concatenate([np.full(5, 100), patient])[draw.permutation(405)]
    before = _bounded(more[more != 100], 2)
    after = _bounded(more, 2)
    places = np.flatnonzero(more != 100)
    assert set(places[before]) == set(after[more[after] != 100])
