"""Dependence between columns of tokens: mutual information, the order of generation that it suggests, and the Chow–Liu tree.

Shapes: n rows, d columns.

References
----------
Chow and Liu: Approximating discrete probability distributions with dependence trees (1968).
"""

from __future__ import annotations

import numpy as np

from nearward.tabular.typing import Floats, Ints

_COARSE = 12  # tokens of a column: pairs of finer tokens would look dependent by chance


def mutual_information(tokens: Ints, sizes: list[int]) -> Floats:
    """Return the mutual information of each pair of columns, in nats, less its expectation for independent columns (d, d)."""
    merged, counts = coarsen(tokens, sizes)
    n, d = merged.shape
    information = np.zeros((d, d))
    for i in range(d):
        for j in range(i + 1, d):
            table = np.bincount(merged[:, i] * counts[j] + merged[:, j], minlength=counts[i] * counts[j]).reshape(counts[i], counts[j])
            share = table / n
            expected = share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)
            seen = share > 0
            freedom = (np.count_nonzero(expected.sum(axis=1)) - 1) * (np.count_nonzero(expected.sum(axis=0)) - 1)
            bias = freedom / (2 * n)
            information[i, j] = information[j, i] = max(0.0, float((share[seen] * np.log(share[seen] / expected[seen])).sum()) - bias)
    return information


def coarsen(tokens: Ints, sizes: list[int], most: int = _COARSE) -> tuple[Ints, list[int]]:
    """Merge neighbouring tokens so that a column has at most ``most``, each of about as many rows; missing (0) stays separate.

    Returns the merged tokens (n, d) and their numbers (d,).
    """
    merged, merged_sizes = np.empty_like(tokens), []
    for j, size in enumerate(sizes):
        lookup = coarse_lookup(np.bincount(tokens[:, j], minlength=size), most)
        merged[:, j] = lookup[tokens[:, j]]
        merged_sizes.append(int(lookup.max()) + 1)
    return merged, merged_sizes


def coarse_lookup(count: Ints, most: int = _COARSE) -> Ints:
    """Return the coarse token of each token of a column (size,), from the number of rows that have each (size,)."""
    if len(count) <= most + 1:
        return np.arange(len(count))
    present = count[1:].astype(np.float64)
    middle = (present.cumsum() - present / 2) / max(present.sum(), 1)
    return np.concatenate([[0], 1 + np.unique((middle * most).astype(np.int64).clip(0, most - 1), return_inverse=True)[1]])


def strongest_pairs(information: Floats, most: int) -> list[tuple[int, int]]:
    """Return the pairs of columns with the greatest mutual information, ``most`` of them, none with zero."""
    pairs = [(float(information[i, j]), i, j) for i in range(len(information)) for j in range(i + 1, len(information))]
    pairs = [pair for pair in pairs if pair[0] > 0]
    return [(i, j) for _, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))[:most]]


def generation_order(information: Floats, outcome: int) -> list[int]:
    """Return the order in which columns are generated: the outcome, then the others by their mutual information with it."""
    others = [int(j) for j in np.argsort(-information[outcome], kind="stable") if j != outcome]
    return [outcome, *others]


def chow_liu_tree(information: Floats, root: int) -> list[tuple[int, int]]:
    """Return the spanning tree of greatest mutual information as (column, parent), parents first; the root's parent is itself."""
    d = len(information)
    best, parent = information[root].copy(), np.full(d, root)
    edges, inside = [(root, root)], {root}
    while len(inside) < d:
        outside = [j for j in range(d) if j not in inside]
        new = max(outside, key=lambda j: (best[j], -j))
        edges.append((new, int(parent[new])))
        inside.add(new)
        closer = information[new] > best
        best[closer], parent[closer] = information[new][closer], new
    return edges
