from __future__ import annotations

import datetime

import numpy as np
import polars as pl
import pytest

from nearward.synth.differential_privacy.model import _first_rows, fit_private
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.errors import InputError


def clinic(n: int = 6000, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    ill = rng.random(n) < 0.3
    lactate = np.exp(rng.normal(0.2 + 1.0 * ill, 0.4)).round(2)
    return pl.DataFrame(
        {
            "ward": np.where(ill, rng.choice(["ICU", "medical"], n, p=[0.8, 0.2]), "medical").tolist(),
            "lactate": [None if hole else v for hole, v in zip(rng.random(n) < 0.2, lactate.tolist(), strict=True)],
            "visits": rng.poisson(3, n),
            "seen": [datetime.date(2020, 1, 1) + datetime.timedelta(days=int(day)) for day in rng.integers(0, 700, n)],
            "died": (rng.random(n) < np.where(ill, 0.5, 0.03)).astype(int),
        }
    )


def sample(generator, frame: pl.DataFrame, n: int = 4000) -> pl.DataFrame:
    tokens = generator.policy.sample(np.full((n, frame.width), -1), seed=1)
    return generator.tokenizer.decode(tokens, np.random.default_rng(2).random(tokens.shape), frame.schema)


def test_a_sample_resembles_the_table():
    frame = clinic()
    generator = fit_private(frame, "died", None, epsilon=8.0, noise_seed=0)
    table = sample(generator, frame)
    assert table.schema == frame.schema
    assert abs(table["died"].mean() - frame["died"].mean()) < 0.02
    for rows in (table, frame):  # associations, not marginals alone
        rate = rows.group_by("ward").agg(pl.col("died").mean()).sort("ward")["died"].to_list()
        assert rate[0] > 3 * rate[1]
    assert abs(table["lactate"].null_count() / 4000 - 0.2) < 0.04
    assert table["lactate"].median() == pytest.approx(frame["lactate"].median(), rel=0.15)
    assert table["visits"].mean() == pytest.approx(frame["visits"].mean(), rel=0.15)
    assert datetime.date(2019, 6, 1) < table["seen"].min()
    assert set(table["ward"].unique()) == {"ICU", "medical"}


@pytest.mark.parametrize("patients", [None, 3000])
def test_the_whole_budget_is_charged_whatever_the_table(patients):
    frame = clinic()
    patient_ids = None if patients is None else np.arange(6000) % patients
    generator = fit_private(frame, "died", patient_ids, epsilon=3.0, noise_seed=1)
    epsilon, delta = generator.accountant.spent()
    assert 2.5 < epsilon <= 3.0 * (1 + 1e-9)
    assert delta <= 1e-6 * (1 + 1e-9)
    assert generator.accountant.rows_per_patient == (1 if patients is None else 2)
    again = fit_private(clinic(seed=5), "died", patient_ids, epsilon=3.0, noise_seed=2)
    assert [(e.what, e.rho) for e in again.accountant.entries if "pair" not in e.what] == [
        (e.what, e.rho) for e in generator.accountant.entries if "pair" not in e.what
    ]


def test_every_release_goes_through_the_mechanisms(monkeypatch):
    """With fixed answers of the mechanisms, one more row does not change the generator."""
    from nearward.synth.differential_privacy.mechanisms import Mechanisms

    def fit(frame: pl.DataFrame):
        replayed = iter(answers) if answers else None

        def release(self, counts, rho, what):
            self.accountant = self.accountant.charge(what, rho)
            if replayed is None:
                record.append(np.asarray(counts, dtype=float).copy())
                return record[-1]
            return next(replayed)

        def choose(self, scores, rho, what):
            return int(release(self, np.array([float(np.argmax(scores))]), rho, what)[0])

        def select_categories(self, counts, rho, delta, what):
            noisy = release(self, counts, rho, what)
            return noisy > 50, noisy

        monkeypatch.setattr(Mechanisms, "counts", release)
        monkeypatch.setattr(Mechanisms, "choose", choose)
        monkeypatch.setattr(Mechanisms, "select_categories", select_categories)
        return fit_private(frame, "died", None, epsilon=5.0)

    record: list[np.ndarray] = []
    answers: list[np.ndarray] = []
    frame = clinic()
    first = fit(frame)
    answers = record
    extra = frame[:1].with_columns(visits=pl.lit(7, dtype=pl.Int64), lactate=pl.lit(900.0))
    second = fit(pl.concat([frame, extra]))
    assert sample(first, frame).equals(sample(second, frame))


def test_a_unique_extreme_and_a_unique_category_are_not_released():
    frame = clinic()
    odd = frame[:1].with_columns(lactate=pl.lit(1e6), ward=pl.lit("Mars"))
    generator = fit_private(pl.concat([frame, odd]), "died", None, epsilon=5.0, noise_seed=3)
    assert generator.tokenizer.column_tokenizers[1].high.max() < 100 or np.nanmax(generator.tokenizer.column_tokenizers[1].high) < 100
    assert "Mars" not in generator.tokenizer.column_tokenizers[0].categories


def test_declared_ranges_and_categories_are_free_and_bound_the_sample():
    public = Schema((Column("ward", kind="category", categories=("ICU", "medical", "surgical")), Column("visits", low=0, high=5)))
    frame = clinic()
    generator = fit_private(frame, "died", None, epsilon=5.0, public=public, noise_seed=4)
    what = [entry.what for entry in generator.accountant.entries]
    assert "levels of 'ward'" not in what
    assert "range of 'visits'" not in what
    assert "range of 'lactate'" in what
    assert sample(generator, frame)["visits"].is_between(0, 5).all()


def test_noise_does_not_depend_on_the_seed():
    frame = clinic(2000).select("visits", "died")
    first, second = (fit_private(frame, "died", None, epsilon=1.0) for _ in range(2))
    assert not all(np.array_equal(a, b) for a, b in zip(first.policy.tables, second.policy.tables, strict=True))


def test_too_few_rows_or_no_budget_is_refused():
    with pytest.raises(InputError, match="at least 50 rows"):
        fit_private(clinic(300), "died", None, epsilon=5.0, noise_seed=0)
    for epsilon in (0.0, -1.0):
        with pytest.raises(InputError, match="epsilon"):
            fit_private(clinic(), "died", None, epsilon=epsilon)


def test_the_contribution_bound_holds():
    patient_ids = np.array([0] * 10 + [1] * 2 + [2])
    selected = _first_rows(patient_ids, 3)
    assert np.bincount(patient_ids[selected]).tolist() == [3, 2, 1]
    assert (np.diff(selected) > 0).all()


def test_a_neighbouring_table_has_the_same_rows_of_other_patients():
    rng = np.random.default_rng(8)
    patient_ids = rng.integers(0, 100, 400)
    more = np.concatenate([np.full(5, 100), patient_ids])[rng.permutation(405)]
    before = _first_rows(more[more != 100], 2)
    after = _first_rows(more, 2)
    rows = np.flatnonzero(more != 100)
    assert set(rows[before]) == set(after[more[after] != 100])
