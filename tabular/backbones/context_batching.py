"""Context batching: queries with overlapping contexts share one forward pass of a backbone.

A network reads its context anew in every call, and neighbours of neighbours are mostly the same patients. So queries are grouped while
the union of their contexts stays small; a query's context then includes the rows of the others in its group. Where queries are stored
rows themselves, a group's context must not contain rows of their patients: a query with such a row joins another group.

Shapes: n stored rows, d raw feature columns, q query rows, c context rows of one query, u rows of a union.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from nearward.tabular.backbones.pretrained import Backbone, trivial_risk
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Bools, Floats, Ints

MAX_ROWS = 512  # of a union: about four contexts of 125; the cost of attention grows with the square
_MAX_QUERIES = 1000  # in one call, which bounds its memory
_PATIENCE = 64  # a group is closed after so many candidates in a row that do not fit


def predict(
    backbone: Backbone,
    stored: Floats,
    outcome: Ints,
    row: Ints,
    query: Floats,
    max_rows: int = MAX_ROWS,
    patient_ids: Ints | None = None,
    query_patient_ids: Ints | None = None,
) -> Floats:
    """Predict queries from their contexts with a backbone.

    Parameters
    ----------
    backbone : Backbone
    stored : (n, d), raw feature values, NaN where missing; categories by level number from 0
    outcome : (n,), 0 or 1
    row : (q, c), indices of the stored rows in each query's context; -1 for padding
    query : (q, d), as ``stored``
    max_rows : int
        Rows of a shared context; 0 predicts each query alone, with its own context only.
    patient_ids : (n,), optional
        Patients of the stored rows.
    query_patient_ids : (q,), optional
        Patients of the queries, where these are stored rows themselves: no context then has a row of the query's patient.

    Returns
    -------
    risk : (q,), probability of outcome 1; for an empty context the event rate of the stored rows

    Raises
    ------
    InputError
        Shapes that do not match, or a backbone that does not return one probability per query.

    Examples
    --------
    >>> class Share:
    ...     name = "share"
    ...
    ...     def risks(self, context, outcome, query):
    ...         return np.full(len(query), outcome.mean())
    >>> stored, outcome = np.arange(6.0)[:, None], np.array([0, 0, 1, 1, 1, 0])
    >>> predict(Share(), stored, outcome, row=np.array([[0, 1, 2, -1], [2, 3, 4, 5]]), query=np.array([[1.0], [3.5]]), max_rows=0)
    array([0.33333333, 0.75      ])
    """
    if outcome.shape != (len(stored),) or len(query) != len(row) or row.max(initial=-1) >= len(stored):
        raise InputError(
            f"stored, outcome, row and query must be (n, d), (n,), (q, c) with indices below n, and (q, d), got "
            f"{stored.shape}, {outcome.shape}, {row.shape} with indices up to {row.max(initial=-1)}, {query.shape}"
        )
    risk = np.empty(len(row))
    for queries, union in share_contexts(row, max_rows, patient_ids, query_patient_ids):
        context, context_outcome = stored[union], outcome[union]
        for start in range(0, len(queries), _MAX_QUERIES):
            part = queries[start : start + _MAX_QUERIES]
            constant = trivial_risk(context, context_outcome, len(part)) if len(union) else np.full(len(part), outcome.mean())
            if constant is None:
                risk[part] = _validated(backbone, backbone.risks(context, context_outcome, query[part]), len(part))
            else:
                risk[part] = constant
    return risk


def share_contexts(
    row: Ints, max_rows: int, patient_ids: Ints | None = None, query_patient_ids: Ints | None = None
) -> list[tuple[Ints, Ints]]:
    """Group queries with overlapping contexts, greedily.

    The first query without a group opens one. Queries that share rows with it join, those with the most shared rows first, as long as
    the union has at most ``max_rows`` rows. The result is deterministic.

    Parameters
    ----------
    row : (q, c), -1 for padding
    max_rows : int
    patient_ids : (n,), optional
    query_patient_ids : (q,), optional

    Returns
    -------
    groups : list of (queries, union)
        Indices of queries, ascending, each query in one group; and of the rows in any of their contexts (u,), ascending. A union is
        larger than ``max_rows`` only where a single query's context is. Queries without a context are a group of their own.

    Raises
    ------
    InputError
        ``row`` is not a table of row indices, or only one of ``patient_ids`` and ``query_patient_ids`` is given.

    Examples
    --------
    >>> [(q.tolist(), u.tolist()) for q, u in share_contexts(np.array([[0, 1, 2], [7, 8, 9], [3, 2, 1]]), max_rows=4)]
    [([0, 2], [0, 1, 2, 3]), ([1], [7, 8, 9])]
    """
    if row.ndim != 2 or not np.issubdtype(row.dtype, np.integer):
        raise InputError(f"row must be (q, c) row indices, got {row.shape} of {row.dtype}")
    if (patient_ids is None) != (query_patient_ids is None):
        raise InputError("patient_ids (of the stored rows) and query_patient_ids must be given together, got only one of them")
    contexts = _Contexts(row, patient_ids, query_patient_ids)
    empty = np.flatnonzero(contexts.size == 0)
    groups = [(empty, np.empty(0, dtype=np.int64))] if len(empty) else []
    ungrouped = contexts.size > 0
    for opener in range(len(row)):
        if ungrouped[opener]:
            queries, union = _grow_group(contexts, opener, ungrouped, max_rows)
            ungrouped[queries] = False
            groups.append((queries, union))
    return groups


class _Contexts:
    """The contexts of q queries, as a sparse matrix (q, n), and its transpose from rows to queries.

    Patients of rows and queries are numbered together; without patient ids, every row and every query is a patient of its own.
    """

    def __init__(self, row: Ints, patient_ids: Ints | None, query_patient_ids: Ints | None) -> None:
        self.n = int(row.max(initial=-1)) + 1
        ordered = np.sort(row, axis=1)
        ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = -1  # duplicates
        present = ordered >= 0
        self.size = present.sum(axis=1)
        start = np.concatenate([[0], np.cumsum(self.size)])
        self._contexts = csr_array((np.ones(start[-1], dtype=np.int64), ordered[present], start), shape=(len(row), self.n))
        self._queries = self._contexts.T.tocsr()
        if patient_ids is None or query_patient_ids is None:
            self.row_patient, self.query_patient = np.arange(self.n), self.n + np.arange(len(row))
        else:
            number = np.unique(np.concatenate([patient_ids, query_patient_ids]), return_inverse=True)[1]
            self.row_patient, self.query_patient = number[: len(patient_ids)], number[len(patient_ids) :]
        self.n_patients = int(max(self.row_patient.max(initial=-1), self.query_patient.max(initial=-1))) + 1

    def rows(self, query: int) -> Ints:
        """Return the rows of one query's context, ascending."""
        start, end = self._contexts.indptr[query : query + 2]
        return np.asarray(self._contexts.indices[start:end])

    def overlap(self, query: int) -> Ints:
        """Count the rows that each query's context shares with this one's (q,)."""
        return np.asarray(self._queries[self.rows(query)].sum(axis=0))


def _grow_group(contexts: _Contexts, opener: int, ungrouped: Bools, max_rows: int) -> tuple[Ints, Ints]:
    """Return the queries and the rows of the group that one query opens."""
    queries, rows = [opener], contexts.rows(opener)
    in_union, row_patients, query_patients = (np.zeros(n, dtype=bool) for n in (contexts.n, contexts.n_patients, contexts.n_patients))
    in_union[rows], row_patients[contexts.row_patient[rows]], query_patients[contexts.query_patient[opener]] = True, True, True
    size, misses = len(rows), 0
    overlap = contexts.overlap(opener)
    # the union never shrinks: a query that does not fit with the opener alone never will
    fits = ungrouped & (overlap > 0) & (size + contexts.size - overlap <= max_rows) & ~row_patients[contexts.query_patient]
    fits[opener] = False
    candidates = np.flatnonzero(fits)
    for candidate in candidates[np.argsort(-overlap[candidates], kind="stable")]:
        rows = contexts.rows(candidate)
        new = rows[~in_union[rows]]
        patient = contexts.query_patient[candidate]
        if size + len(new) > max_rows or row_patients[patient] or query_patients[contexts.row_patient[new]].any():
            misses += 1
            if misses == _PATIENCE:
                break
            continue
        queries.append(int(candidate))
        in_union[new], row_patients[contexts.row_patient[new]], query_patients[patient] = True, True, True
        size, misses = size + len(new), 0
    return np.sort(np.array(queries, dtype=np.int64)), np.flatnonzero(in_union)


def _validated(backbone: Backbone, output: Any, n_queries: int) -> Floats:
    """Refuse output that is not one probability per query: a mistake in a user's own backbone must not pass as a risk."""
    risk: Floats = np.asarray(output, dtype=np.float64)
    requirement = f"risks of the backbone {backbone.name!r} must return a probability for each of {n_queries} query rows"
    if risk.shape != (n_queries,):
        raise InputError(f"{requirement}, shape ({n_queries},), got {risk.shape}")
    if not ((risk >= 0) & (risk <= 1)).all():  # NaN is neither
        raise InputError(f"{requirement}, from 0 to 1, got values outside, or NaN")
    return risk
