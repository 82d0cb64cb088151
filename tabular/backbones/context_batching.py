"""One context for several queries: those whose similar patients overlap are asked about together.

A network reads its context anew at every call, and neighbours of neighbours are mostly the same patients; so queries are grouped while
the union of their contexts stays small. A query then also sees what its group's other members brought along. Stored rows that
are judged themselves must not meet their own outcome in that way: they name their patients, and are never grouped with
a query that has one of that patient's rows in its context.

Letters: n stored rows, d raw feature columns, q query rows, c context rows of one query, u rows of a union.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nearward.tabular.backbones.pretrained import Backbone, answer_without
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Bools, Floats, Ints

MOST = 512  # rows of a union: about four contexts of 125; attention costs their square
_QUERIES = 1000  # asked about in one call, which bounds the memory it takes
_PATIENCE = 64  # near queries in a row that did not fit before a group is closed


def ask(
    backbone: Backbone,
    stored: Floats,
    outcome: Ints,
    row: Ints,
    query: Floats,
    most: int = MOST,
    owner: Ints | None = None,
    asker: Ints | None = None,
) -> Floats:
    """Let a backbone judge queries by their contexts.

    Parameters
    ----------
    backbone : Backbone
    stored : (n, d), raw feature values, NaN where missing; of a category the level number, from 0
    outcome : (n,), 0 or 1
    row : (q, c), numbers of the stored rows that are each query's context; -1 in empty places
    query : (q, d), as ``stored``
    most : int
        Rows of a shared context; 0 asks about one query at a time, each with its own context alone.
    owner : (n,), optional
        Patient of each stored row.
    asker : (q,), optional
        Patient of each query, where the queries are stored rows themselves: no context then holds a row of its own patient.

    Returns
    -------
    risk : (q,), probability of outcome 1; for an empty context the stored rows' share of events

    Raises
    ------
    InputError
        Where the shapes do not belong together, or the backbone gives back anything but a probability a query.

    Examples
    --------
    >>> class Share:
    ...     name = "share"
    ...
    ...     def risks(self, context, outcome, query):
    ...         return np.full(len(query), outcome.mean())
    >>> stored, outcome = np.arange(6.0)[:, None], np.array([0, 0, 1, 1, 1, 0])
    >>> ask(Share(), stored, outcome, row=np.array([[0, 1, 2, -1], [2, 3, 4, 5]]), query=np.array([[1.0], [3.5]]), most=0)
    array([0.33333333, 0.75      ])
    """
    if outcome.shape != (len(stored),) or len(query) != len(row) or row.max(initial=-1) >= len(stored):
        raise InputError(
            f"stored, outcome, row and query must be (n, d), (n,), (q, c) with numbers below n, and (q, d), got "
            f"{stored.shape}, {outcome.shape}, {row.shape} with numbers up to {row.max(initial=-1)}, {query.shape}"
        )
    risk = np.empty(len(row))
    for members, union in share_contexts(row, most, owner, asker):
        context, known = stored[union], outcome[union]
        for begin in range(0, len(members), _QUERIES):
            part = members[begin : begin + _QUERIES]
            without = answer_without(context, known, len(part)) if len(union) else np.full(len(part), outcome.mean())
            risk[part] = _checked(backbone, backbone.risks(context, known, query[part]), len(part)) if without is None else without
    return risk


def share_contexts(row: Ints, most: int, owner: Ints | None = None, asker: Ints | None = None) -> list[tuple[Ints, Ints]]:
    """Group queries whose contexts overlap.

    The first query that is in no group opens one; the queries that share rows with it join it, those that share most first, as long as
    the union has at most ``most`` rows. The groups depend on nothing but the arguments.

    Parameters
    ----------
    row : (q, c), -1 in empty places
    most : int
    owner : (n,), optional
    asker : (q,), optional

    Returns
    -------
    groups : list of (members, union)
        Numbers of queries, ascending, every query in one group; and of the rows any of them has in its context (u,), ascending. A
        union is larger than ``most`` only where a single query's context is. Queries without a context are a group of their own.

    Raises
    ------
    InputError
        Where ``row`` is not a table of row numbers, or only one of ``owner`` and ``asker`` is given.

    Examples
    --------
    >>> [(m.tolist(), u.tolist()) for m, u in share_contexts(np.array([[0, 1, 2], [7, 8, 9], [3, 2, 1]]), most=4)]
    [([0, 2], [0, 1, 2, 3]), ([1], [7, 8, 9])]
    """
    if row.ndim != 2 or not np.issubdtype(row.dtype, np.integer):
        raise InputError(f"row must be (q, c) row numbers, got {row.shape} of {row.dtype}")
    if (owner is None) != (asker is None):
        raise InputError("owner and asker go together: the patients of the stored rows, and of the queries")
    contexts = _Contexts(row, owner, asker)
    empty = np.flatnonzero(contexts.size == 0)
    groups = [(empty, np.empty(0, dtype=np.int64))] if len(empty) else []
    waiting = contexts.size > 0
    for opener in range(len(row)):
        if waiting[opener]:
            members, union = _grow(contexts, opener, waiting, most)
            waiting[members] = False
            groups.append((members, union))
    return groups


class _Contexts:
    """The contexts of q queries, and which queries have a row in theirs.

    Patients are numbered together; where nobody is to be kept apart, every row and every query is a patient of its own.
    """

    def __init__(self, row: Ints, owner: Ints | None, asker: Ints | None) -> None:
        self.n = int(row.max(initial=-1)) + 1
        ordered = np.sort(row, axis=1)
        ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = -1  # a row counts once
        present = ordered >= 0
        self.size = present.sum(axis=1)
        self.flat = ordered[present].astype(np.int64)
        self.begin = np.concatenate([[0], np.cumsum(self.size)])
        query = np.repeat(np.arange(len(row)), self.size)
        self.asking = query[np.argsort(self.flat, kind="stable")]  # queries, by the row they have
        self.first = np.concatenate([[0], np.cumsum(np.bincount(self.flat, minlength=self.n))])
        if owner is None or asker is None:
            self.owner, self.asker = np.arange(self.n), self.n + np.arange(len(row))
        else:
            number = np.unique(np.concatenate([owner, asker]), return_inverse=True)[1]
            self.owner, self.asker = number[: len(owner)], number[len(owner) :]
        self.patients = int(max(self.owner.max(initial=-1), self.asker.max(initial=-1))) + 1

    def of(self, query: int) -> Ints:
        """Return the rows (ascending) of one query's context."""
        rows: Ints = self.flat[self.begin[query] : self.begin[query + 1]]
        return rows

    def shared(self, query: int) -> Ints:
        """Count the rows that every query's context has in common with this one's (q,)."""
        lists = [self.asking[self.first[r] : self.first[r + 1]] for r in self.of(query)]
        counts: Ints = np.bincount(np.concatenate(lists), minlength=len(self.size))
        return counts


def _grow(contexts: _Contexts, opener: int, waiting: Bools, most: int) -> tuple[Ints, Ints]:
    """Collect the group that one query opens."""
    members, rows = [opener], contexts.of(opener)
    union, of_members, of_union = (np.zeros(size, dtype=bool) for size in (contexts.n, contexts.patients, contexts.patients))
    union[rows], of_union[contexts.owner[rows]], of_members[contexts.asker[opener]] = True, True, True
    size, misses = len(rows), 0
    shared = contexts.shared(opener)
    # the union never shrinks, so who does not fit beside the opener alone never will
    may = waiting & (shared > 0) & (size + contexts.size - shared <= most) & ~of_union[contexts.asker]
    may[opener] = False
    near = np.flatnonzero(may)
    for other in near[np.argsort(-shared[near], kind="stable")]:
        rows = contexts.of(other)
        fresh = rows[~union[rows]]
        patient = contexts.asker[other]
        if size + len(fresh) > most or of_union[patient] or of_members[contexts.owner[fresh]].any():
            misses += 1
            if misses == _PATIENCE:
                break
            continue
        members.append(int(other))
        union[fresh], of_union[contexts.owner[fresh]], of_members[patient] = True, True, True
        size, misses = size + len(fresh), 0
    return np.sort(np.array(members, dtype=np.int64)), np.flatnonzero(union)


def _checked(backbone: Backbone, answer: Any, queries: int) -> Floats:
    """Refuse what is not a probability a query: a mistake in a user's own backbone should not look like a risk."""
    risk: Floats = np.asarray(answer, dtype=np.float64)
    must = f"risks of the backbone {backbone.name!r} must return a probability for each of {queries} query rows"
    if risk.shape != (queries,):
        raise InputError(f"{must}, shape ({queries},), got {risk.shape}")
    if not ((risk >= 0) & (risk <= 1)).all():  # NaN is neither
        raise InputError(f"{must}, from 0 to 1, got some are not, or are NaN")
    return risk
