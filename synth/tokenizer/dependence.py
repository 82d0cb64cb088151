"""How much columns tell of each other: mutual information of tokens, the order to write columns in, and the Chow–Liu tree.

Letters: n rows, d columns.

References
----------
Chow and Liu: Approximating discrete probability distributions with dependence trees (1968).
"""

from __future__ import annotations

import numpy as np

from nearward.tabular.typing import Floats, Ints

_COARSE = 12  # cells a column: pairs of fine tokens would tell of each other by chance


def coarse(tokens: Ints, sizes: list[int], most: int = _COARSE) -> tuple[Ints, list[int]]:
    """Join neighbouring tokens so that a column has at most so many, of about as many rows each; missing (0) stays apart.

    Returns
    -------
    tokens : (n, d)
    sizes : (d,)
    """
    joined, counts = np.empty_like(tokens), []
    for j, size in enumerate(sizes):
        table = coarse_table(np.bincount(tokens[:, j], minlength=size), most)
        joined[:, j] = table[tokens[:, j]]
        counts.append(int(table.max()) + 1)
    return joined, counts


def coarse_table(rows: Ints, most: int = _COARSE) -> Ints:
    """Return which coarse token each token (size,) of a column becomes, by how many rows have it."""
    if len(rows) <= most + 1:
        return np.arange(len(rows))
    there = rows[1:].astype(np.float64)
    middle = (there.cumsum() - there / 2) / max(there.sum(), 1)
    return np.concatenate([[0], 1 + np.unique((middle * most).astype(np.int64).clip(0, most - 1), return_inverse=True)[1]])


def mutual_information(tokens: Ints, sizes: list[int]) -> Floats:
    """Return the mutual information of each pair of columns, in nats, less what independent columns would show by chance (d, d)."""
    joined, counts = coarse(tokens, sizes)
    n, d = joined.shape
    told = np.zeros((d, d))
    for i in range(d):
        for j in range(i + 1, d):
            table = np.bincount(joined[:, i] * counts[j] + joined[:, j], minlength=counts[i] * counts[j]).reshape(counts[i], counts[j])
            share = table / n
            due = share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)
            there = share > 0
            free = (np.count_nonzero(due.sum(axis=1)) - 1) * (np.count_nonzero(due.sum(axis=0)) - 1)
            told[i, j] = told[j, i] = max(0.0, float((share[there] * np.log(share[there] / due[there])).sum()) - free / (2 * n))
    return told


def strongest_pairs(told: Floats, most: int) -> list[tuple[int, int]]:
    """Return the pairs of columns that tell most of each other, none that tells nothing."""
    pairs = [(float(told[i, j]), i, j) for i in range(len(told)) for j in range(i + 1, len(told)) if told[i, j] > 0]
    return [(i, j) for _, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))[:most]]


def writing_order(told: Floats, outcome: int) -> list[int]:
    """Return the columns in the order to write them: the outcome, then those that tell most of it."""
    rest = [int(j) for j in np.argsort(-told[outcome], kind="stable") if j != outcome]
    return [outcome, *rest]


def dependence_tree(told: Floats, root: int) -> list[tuple[int, int]]:
    """Return the tree whose edges tell most (Chow–Liu) as (column, parent), parents first; the root's parent is itself."""
    d = len(told)
    best, parent = told[root].copy(), np.full(d, root)
    edges, inside = [(root, root)], {root}
    while len(inside) < d:
        outside = [j for j in range(d) if j not in inside]
        new = max(outside, key=lambda j: (best[j], -j))
        edges.append((new, int(parent[new])))
        inside.add(new)
        closer = told[new] > best
        best[closer], parent[closer] = told[new][closer], new
    return edges
