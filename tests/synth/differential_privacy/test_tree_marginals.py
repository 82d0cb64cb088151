from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.synth.differential_privacy.mechanisms import Mechanisms
from nearward.synth.differential_privacy.tree_marginals import TreeMarginals, _consistent, _dependence, _on_simplex

FREE = -1
# A small tree by hand: column 1 is the root, 0 and 2 hang from it.
TREE = TreeMarginals(
    order=(1, 0, 2),
    parent=(1, 1, 1),
    tables=(np.array([[0.25, 0.75]]), np.array([[0.5, 0.5], [0.1, 0.9]]), np.array([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])),
)


def all_rows() -> np.ndarray:
    return np.array([[a, b, c] for a in range(2) for b in range(2) for c in range(3)])


def exact_mechanisms(epsilon: float = 1e4) -> Mechanisms:
    return Mechanisms(PrivacyAccountant(epsilon, 1e-6), noise_seed=0)


def test_log_probability_by_hand_sums_to_one():
    probability = np.exp(TREE.log_prob(all_rows()).sum(axis=1))
    assert probability.sum() == pytest.approx(1)
    assert np.exp(TREE.log_prob(np.array([[1, 1, 2]])).sum()) == pytest.approx(0.9 * 0.75 * 0.5)


@pytest.mark.parametrize("condition", [[FREE, FREE, FREE], [1, FREE, FREE], [FREE, FREE, 0], [0, FREE, 2], [FREE, 0, FREE]])
def test_samples_are_exactly_conditional(condition):
    n = 4000
    sampled = TREE.sample(np.tile(condition, (n, 1)), seed=1)
    rows = all_rows()
    meets = np.all([(g == FREE) | (rows[:, j] == g) for j, g in enumerate(condition)], axis=0)
    probability = np.exp(TREE.log_prob(rows).sum(axis=1)) * meets
    probability /= probability.sum()
    counts = np.array([(sampled == row).all(axis=1).sum() for row in rows])
    assert counts[probability == 0].sum() == 0
    possible = probability > 0
    if possible.sum() > 1:
        assert stats.chisquare(counts[possible], probability[possible] * n).pvalue > 1e-4


def test_with_little_noise_the_tree_is_recovered():
    sampled = TREE.sample(np.full((30_000, 3), FREE), seed=2)
    counts = tuple(np.bincount(sampled[:, j]).astype(float) for j in range(3))
    mechanisms = exact_mechanisms()
    fitted = TreeMarginals.fit(sampled, counts, mechanisms, mechanisms.accountant.budget, root=1)
    assert fitted.order[0] == 1
    assert dict(zip(fitted.order, fitted.parent, strict=True)) == {1: 1, 0: 1, 2: 1}
    assert np.exp(fitted.log_prob(all_rows()).sum(axis=1)) == pytest.approx(np.exp(TREE.log_prob(all_rows()).sum(axis=1)), abs=0.01)
    assert mechanisms.accountant.remaining == pytest.approx(0, abs=1e-9 * mechanisms.accountant.budget)


def test_one_row_moves_a_score_by_at_most_one():
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, 4, (200, 2))
    marginals = [np.full(4, 0.25)] * 2
    before = _dependence(tokens, 0, 1, marginals, 200.0)
    for row in rng.integers(0, 4, (20, 2)):
        assert abs(_dependence(np.vstack([tokens, row]), 0, 1, marginals, 200.0) - before) <= 1 + 1e-9


def test_consistent_shares_have_these_marginals():
    rng = np.random.default_rng(4)
    first, second = rng.dirichlet(np.ones(4)), np.array([0.5, 0.5, 0.0])
    shares = _consistent(100 * np.outer(first, second) + rng.normal(0, 5, (4, 3)), first, second)
    assert (shares >= 0).all()
    assert shares.sum(axis=1) == pytest.approx(first, abs=1e-6)
    assert shares.sum(axis=0) == pytest.approx(second, abs=1e-6)


def test_projection_by_hand():
    assert _on_simplex(np.array([3.0, 1.0, 0.0])) == pytest.approx([0.75, 0.25, 0.0])
    assert _on_simplex(np.array([3.0, 1.0, -2.0])) == pytest.approx([1.0, 0.0, 0.0])  # sum 2: 3 - 1 and 1 - 1


def test_decoding_constraints_hold():
    class Never:
        def allowed_tokens(self, column, tokens):
            return np.tile([True, False, False], (len(tokens), 1)) if column == 2 else None

        def commit(self, column, tokens):
            return tokens

    sampled = TREE.sample(np.full((300, 3), FREE), seed=5, make_constraint=lambda start: Never())
    assert (sampled[:, 2] == 0).all()
    assert len(np.unique(sampled[:, 1])) == 2


def test_state_round_trip():
    tensors: dict[str, np.ndarray] = {}
    fitted = TreeMarginals.from_state(TREE.state(tensors), tensors)
    condition = np.full((50, 3), FREE)
    assert np.array_equal(fitted.sample(condition, 7), TREE.sample(condition, 7))
