"""Context batching: every query in one group, small exact unions, no query beside rows of its patient; and `predict`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from nearward.tabular.backbones import context_batching
from nearward.tabular.backbones.context_batching import predict, share_contexts
from nearward.tabular.errors import InputError


class Linear:
    """A user's own backbone: a logistic regression of the context."""

    name = "linear"

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def risks(self, context: np.ndarray, outcome: np.ndarray, query: np.ndarray) -> np.ndarray:
        self.calls.append((len(context), len(query)))
        return LogisticRegression().fit(context, outcome).predict_proba(query)[:, 1]


class Recogniser:
    """Returns the outcome of the queried row where the context contains it, else one half."""

    name = "recogniser"

    def risks(self, context: np.ndarray, outcome: np.ndarray, query: np.ndarray) -> np.ndarray:
        labels = {row.tobytes(): float(event) for row, event in zip(context, outcome, strict=True)}
        return np.array([labels.get(row.tobytes(), 0.5) for row in query])


def clinic(seed: int, n: int = 120, q: int = 40, c: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Stored rows, their outcomes, the c nearest of each query, and the queries."""
    rng = np.random.default_rng(seed)
    stored, query = rng.normal(size=(n, 3)), rng.normal(size=(q, 3))
    outcome = (stored[:, 0] + rng.normal(size=n) > 0.3).astype(np.int64)
    return stored, outcome, nearest(stored, query, c), query


def nearest(stored: np.ndarray, query: np.ndarray, c: int) -> np.ndarray:
    return np.argsort(((query[:, None] - stored) ** 2).sum(axis=2), axis=1)[:, :c]


# ---- groups --------------------------------------------------------------------------------------


def test_by_hand() -> None:
    """The fourth shares most with the first and joins; then the second no longer fits, the third shares nothing."""
    row = np.array([[0, 1, 2, 3], [3, 4, 5, 6], [20, 21, -1, -1], [1, 2, 3, 4]])
    groups = [(members.tolist(), union.tolist()) for members, union in share_contexts(row, max_rows=6)]
    assert groups == [([0, 3], [0, 1, 2, 3, 4]), ([1], [3, 4, 5, 6]), ([2], [20, 21])]
    assert [members.tolist() for members, _ in share_contexts(row, max_rows=7)] == [[0, 1, 3], [2]]


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    q=st.integers(0, 25),
    c=st.integers(0, 8),
    n=st.integers(1, 40),
    max_rows=st.integers(0, 30),
    with_patients=st.booleans(),
)
def test_properties(seed: int, q: int, c: int, n: int, max_rows: int, with_patients: bool) -> None:
    rng = np.random.default_rng(seed)
    row = rng.integers(-1, n, size=(q, c))  # rows repeat, places are empty
    patient_ids, query_patient_ids = rng.integers(0, 8, size=n), rng.integers(0, 10, size=q)
    if with_patients:
        row = np.where((row >= 0) & (patient_ids[row] == query_patient_ids[:, None]), -1, row)
    groups = share_contexts(row, max_rows, *((patient_ids, query_patient_ids) if with_patients else ()))

    contexts = [set(line.tolist()) - {-1} for line in row]
    assert sorted(member for members, _ in groups for member in members) == list(range(q))
    for members, union in groups:
        assert set(union) == set().union(*(contexts[member] for member in members))
        assert (np.diff(union) > 0).all()
        assert len(union) <= max_rows or len(members) == 1
        if with_patients:
            assert not set(patient_ids[union]) & set(query_patient_ids[members])
        if len(union) and len(members) > 1:
            opener = contexts[members[0]]
            assert all(contexts[member] & opener for member in members)
        if not len(union):
            assert members.tolist() == [i for i in range(q) if not contexts[i]]
    again = share_contexts(row.copy(), max_rows, *((patient_ids, query_patient_ids) if with_patients else ()))
    assert all((a == b).all() for one, other in zip(groups, again, strict=True) for a, b in zip(one, other, strict=True))


def test_neighbours_of_neighbours_are_grouped() -> None:
    *_, row, _ = clinic(0, n=2000, q=1000, c=32)
    groups = share_contexts(row, max_rows=128)
    assert len(groups) < 1000 / 4
    assert np.mean([len(union) for _, union in groups]) > 100


def test_queries_that_do_not_fit_do_not_end_a_group_but_many_in_a_row_do(monkeypatch: pytest.MonkeyPatch) -> None:
    row = np.array([[0, 1, 2, 3], [0, 1, 2, 9], [0, 1, 2, 8], [0, 1, -1, -1]])
    separate = (
        np.array([0, 0, 0, 0, 0, 0, 0, 0, 3, 2]),
        np.array([1, 4, 2, 5]),
    )  # row 9, of the second query, is the third's patient's
    assert [members.tolist() for members, _ in share_contexts(row, 9, *separate)] == [[0, 1, 3], [2]]
    monkeypatch.setattr(context_batching, "_PATIENCE", 1)
    assert [members.tolist() for members, _ in share_contexts(row, 9, *separate)] == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(3, dtype=int), 5), r"\(q, c\) row indices, got \(3,\)"),
        ((np.zeros((3, 2)), 5), "float64"),
        ((np.zeros((3, 2), dtype=int), 5, np.zeros(1, dtype=int)), "must be given together"),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        share_contexts(*arguments)


# ---- ask -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_rows", [0, 12])
def test_contexts_that_are_not_merged_equal_single_queries(max_rows: int) -> None:
    stored, outcome, row, query = clinic(1)
    risk = predict(Linear(), stored, outcome, row, query, max_rows=max_rows)
    for i in range(len(query)):
        assert risk[i] == pytest.approx(predict(Linear(), stored, outcome, row[i : i + 1], query[i : i + 1])[0], abs=1e-12)
        context = np.sort(row[i])
        if 0 < outcome[context].sum() < len(context):
            assert risk[i] == pytest.approx(Linear().risks(stored[context], outcome[context], query[i : i + 1])[0], abs=1e-12)
    assert np.ptp(risk) > 0.2


def test_the_order_of_the_queries_does_not_matter_where_nothing_is_merged() -> None:
    stored, outcome, row, query = clinic(2)
    order = np.random.default_rng(0).permutation(len(query))
    risk = predict(Linear(), stored, outcome, row, query, max_rows=12)
    assert predict(Linear(), stored, outcome, row[order], query[order], max_rows=12) == pytest.approx(risk[order], abs=1e-12)


def test_a_shared_context_is_the_union_and_saves_calls() -> None:
    stored, outcome, row, query = clinic(3)
    backbone = Linear()
    risk = predict(backbone, stored, outcome, row, query, max_rows=40)
    assert len(backbone.calls) < len(query) / 2
    assert sum(queries for _, queries in backbone.calls) == len(query)
    assert max(rows for rows, _ in backbone.calls) <= 40
    for members, union in share_contexts(row, 40):
        assert risk[members] == pytest.approx(Linear().risks(stored[union], outcome[union], query[members]), abs=1e-12)


def test_many_queries_of_one_context_are_predicted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    stored, outcome, row, query = clinic(4)
    whole, parts = Linear(), Linear()
    risk = predict(whole, stored, outcome, row, query, max_rows=1000)
    monkeypatch.setattr(context_batching, "_MAX_QUERIES", 7)
    assert predict(parts, stored, outcome, row, query, max_rows=1000) == pytest.approx(risk, abs=1e-12)
    assert max(queries for _, queries in parts.calls) == 7 < max(queries for _, queries in whole.calls)


def test_no_context_has_rows_of_the_querys_patient() -> None:
    """A row's neighbours exclude its patient, but its neighbours' neighbours may include it."""
    rng = np.random.default_rng(5)
    stored = rng.normal(size=(90, 2))
    outcome, patient = rng.integers(0, 2, size=90), rng.integers(0, 45, size=90)
    distance = ((stored[:, None] - stored) ** 2).sum(axis=2)
    distance[patient[:, None] == patient] = np.inf
    row = np.argsort(distance, axis=1)[:, :10]
    mixed = np.array([0 < outcome[line].sum() < 10 for line in row])
    separate = predict(Recogniser(), stored, outcome, row, stored, max_rows=30, patient_ids=patient, query_patient_ids=patient)
    assert (separate[mixed] == 0.5).all()
    assert len(share_contexts(row, 30, patient, patient)) < 80  # and yet some are queries about together
    assert (predict(Recogniser(), stored, outcome, row, stored, max_rows=30)[mixed] != 0.5).any()


def test_contexts_of_one_outcome_and_empty_ones_do_not_need_the_backbone() -> None:
    stored, outcome = np.arange(10.0)[:, None], np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    row = np.array([[0, 1, 2, -1], [5, 6, 7, 8], [-1, -1, -1, -1]])
    backbone = Linear()
    risk = predict(backbone, stored, outcome, row, np.zeros((3, 1)), max_rows=0)
    assert risk.tolist() == pytest.approx([0.5 / 4, 4.5 / 5, 0.6])
    assert not backbone.calls
    assert predict(backbone, stored, outcome, row[:0], np.zeros((0, 1))).shape == (0,)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.full((3, 2), 0.5), r"shape \(3,\), got \(3, 2\)"),
        (np.array([0.1, np.nan, 0.2]), "or NaN"),
        (np.array([0.1, 1.2, 0.2]), "from 0 to 1"),
        (np.array([0.1, -0.2, 0.2]), "from 0 to 1"),
    ],
)
def test_outputs_that_are_no_probabilities_are_refused(answer: np.ndarray, message: str) -> None:
    class Mistaken:
        name = "mistaken"

        def risks(self, context: np.ndarray, outcome: np.ndarray, query: np.ndarray) -> np.ndarray:
            return answer

    with pytest.raises(InputError, match=message) as error:
        predict(Mistaken(), np.arange(4.0)[:, None], np.array([0, 1, 0, 1]), np.array([[0, 1, 2]] * 3), np.zeros((3, 1)))
    assert "'mistaken'" in str(error.value)


def test_rows_that_are_not_stored_are_refused() -> None:
    with pytest.raises(InputError, match="indices up to 9"):
        predict(Linear(), np.zeros((9, 1)), np.zeros(9, dtype=int), np.array([[9]]), np.zeros((1, 1)))
