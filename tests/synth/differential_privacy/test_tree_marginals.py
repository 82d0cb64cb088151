from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.synth.differential_privacy.mechanisms import Mechanisms
from nearward.synth.differential_privacy.tree_marginals import TreeMarginals, _agreeing, _gap, _on_simplex

FREE = -1
# A small tree by hand: column 1 is the root, 0 and 2 hang from it.
TREE = TreeMarginals(
    order=(1, 0, 2),
    parent=(1, 1, 1),
    tables=(np.array([[0.25, 0.75]]), np.array([[0.5, 0.5], [0.1, 0.9]]), np.array([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])),
)


def all_rows() -> np.ndarray:
    return np.array([[a, b, c] for a in range(2) for b in range(2) for c in range(3)])


def tell(epsilon: float = 1e4) -> Mechanisms:
    return Mechanisms(PrivacyAccountant(epsilon, 1e-6), noise_seed=0)


def test_log_probability_by_hand_sums_to_one():
    chance = np.exp(TREE.log_prob(all_rows()).sum(axis=1))
    assert chance.sum() == pytest.approx(1)
    assert np.exp(TREE.log_prob(np.array([[1, 1, 2]])).sum()) == pytest.approx(0.9 * 0.75 * 0.5)


@pytest.mark.parametrize("given", [[FREE, FREE, FREE], [1, FREE, FREE], [FREE, FREE, 0], [0, FREE, 2], [FREE, 0, FREE]])
def test_samples_are_exactly_conditional(given):
    n = 4000
    drawn = TREE.sample(np.tile(given, (n, 1)), seed=1)
    rows = all_rows()
    meets = np.all([(g == FREE) | (rows[:, j] == g) for j, g in enumerate(given)], axis=0)
    chance = np.exp(TREE.log_prob(rows).sum(axis=1)) * meets
    chance /= chance.sum()
    counted = np.array([(drawn == row).all(axis=1).sum() for row in rows])
    assert counted[chance == 0].sum() == 0
    there = chance > 0
    if there.sum() > 1:
        assert stats.chisquare(counted[there], chance[there] * n).pvalue > 1e-4


def test_with_hardly_any_noise_a_tree_is_found_again():
    drawn = TREE.sample(np.full((30_000, 3), FREE), seed=2)
    counts = tuple(np.bincount(drawn[:, j]).astype(float) for j in range(3))
    mechanisms = tell()
    again = TreeMarginals.fit(drawn, counts, mechanisms, mechanisms.ledger.budget, root=1)
    assert again.order[0] == 1
    assert dict(zip(again.order, again.parent, strict=True)) == {1: 1, 0: 1, 2: 1}
    assert np.exp(again.log_prob(all_rows()).sum(axis=1)) == pytest.approx(np.exp(TREE.log_prob(all_rows()).sum(axis=1)), abs=0.01)
    assert mechanisms.ledger.left == pytest.approx(0, abs=1e-9 * mechanisms.ledger.budget)


def test_one_row_moves_a_score_by_at_most_one():
    draw = np.random.default_rng(3)
    tokens = draw.integers(0, 4, (200, 2))
    alone = [np.full(4, 0.25)] * 2
    before = _gap(tokens, 0, 1, alone, 200.0)
    for row in draw.integers(0, 4, (20, 2)):
        assert abs(_gap(np.vstack([tokens, row]), 0, 1, alone, 200.0) - before) <= 1 + 1e-9


def test_agreeing_counts_are_shares_with_the_margins_asked_for():
    draw = np.random.default_rng(4)
    first, second = draw.dirichlet(np.ones(4)), np.array([0.5, 0.5, 0.0])
    found = _agreeing(100 * np.outer(first, second) + draw.normal(0, 5, (4, 3)), first, second)
    assert (found >= 0).all()
    assert found.sum(axis=1) == pytest.approx(first, abs=1e-6)
    assert found.sum(axis=0) == pytest.approx(second, abs=1e-6)


def test_projection_by_hand():
    assert _on_simplex(np.array([3.0, 1.0, 0.0])) == pytest.approx([0.75, 0.25, 0.0])
    assert _on_simplex(np.array([3.0, 1.0, -2.0])) == pytest.approx([1.0, 0.0, 0.0])  # sum 2: 3 - 1 and 1 - 1


def test_rules_of_the_sampler_are_obeyed():
    class Never:
        def allowed_tokens(self, column, tokens):
            return np.tile([True, False, False], (len(tokens), 1)) if column == 2 else None

        def commit(self, column, tokens):
            return tokens

    drawn = TREE.sample(np.full((300, 3), FREE), seed=5, make_constraint=lambda start: Never())
    assert (drawn[:, 2] == 0).all()
    assert len(np.unique(drawn[:, 1])) == 2


def test_state_there_and_back():
    tensors: dict[str, np.ndarray] = {}
    again = TreeMarginals.from_state(TREE.state(tensors), tensors)
    given = np.full((50, 3), FREE)
    assert np.array_equal(again.sample(given, 7), TREE.sample(given, 7))
