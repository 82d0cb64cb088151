"""The three optimisers on a policy without an association: they add it, and the rare outcome keeps its share."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from nearward.synth.optimization.awr import AwrConfig
from nearward.synth.optimization.improvement import OPTIMISERS, ImproveConfig, ImprovementData, improve
from nearward.synth.optimization.ppo import PpoConfig
from nearward.synth.optimization.tilting import TiltedPolicy
from nearward.synth.policy.autoregressive import FREE, ObservedTokens, Policy
from nearward.tabular.errors import InputError

CONFIG = ImproveConfig(rounds=2, rows=3000, ppo=PpoConfig(rounds=6, rows=1024, rate=1e-3, kl_target=0.05, penalty=0.1))


def linked(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    outcome = 1 + (rng.random(n) < 0.1)
    a = rng.integers(1, 5, n)
    b = np.where(rng.random(n) < 0.7, a, rng.integers(1, 5, n))
    return np.stack([outcome, a, b], axis=1)


def without_association() -> tuple[Policy, ImprovementData]:
    """A policy with the marginals of the columns and no association."""
    learned = linked(2000, 0)
    policy = Policy([3, 5, 5], [False] * 3, [0, 1, 2], [np.bincount(learned[:, j], minlength=s) for j, s in enumerate((3, 5, 5))])
    return policy, ImprovementData(
        learned, linked(800, 1), None, linked(2000, 3), None, outcome_column=0, rare_token=2, column_groups=[(1, 2)]
    )


def agreement(policy) -> tuple[float, float]:
    synthetic = policy.sample(np.full((6000, 3), FREE), 5, lambda first: ObservedTokens(policy.token_counts))
    return float((synthetic[:, 1] == synthetic[:, 2]).mean()), float((synthetic[:, 0] == 2).mean())


@pytest.mark.parametrize("optimiser", ["tilt", "awr", "ppo"])
def test_every_optimiser_learns_the_association_and_keeps_the_rare_outcome(optimiser) -> None:
    policy, data = without_association()
    before, share = agreement(policy)
    better, account = improve(policy, data, optimiser, 0, CONFIG)
    after, rare_share = agreement(better)
    assert before < 0.3
    assert after > before + 0.08  # 0.775 among real rows
    assert rare_share == pytest.approx(share, abs=0.02)
    content = account.to_dict()
    assert json.loads(json.dumps(content)) == content
    first = account.rounds[0]
    assert first.separations["row"].low > 0.5  # discriminators were above chance before the policy changed
    assert first.gain > 0
    if optimiser != "tilt":
        assert first.gain_found.low > 0
    if optimiser == "ppo":
        assert all(abs(diagnostics["kl"]) < 0.5 for round_ in account.rounds for diagnostics in round_.ppo or [])


def test_discriminators_at_chance_change_nothing() -> None:
    _, data = without_association()
    independent = data.train.copy()
    for j in range(3):
        independent[:, j] = np.random.default_rng(j).permutation(independent[:, j])
    policy = Policy([3, 5, 5], [False] * 3, [0, 1, 2], [np.bincount(independent[:, j], minlength=s) for j, s in enumerate((3, 5, 5))])
    real = np.stack([np.random.default_rng(10 + j).permutation(linked(800, 2)[:, j]) for j in range(3)], axis=1)
    before = policy.network.state_dict()["norm_out.weight"].clone()
    _, account = improve(policy, ImprovementData(independent, real, None, real, None, 0, 2), "ppo", 3, CONFIG)
    assert account.rounds[-1].stopped
    assert len(account.rounds) == 1
    assert (policy.network.state_dict()["norm_out.weight"] == before).all()


def test_a_tilted_policy_meets_conditions_and_is_loaded_from_its_state() -> None:
    policy, data = without_association()
    tilted, _ = improve(policy, data, "tilt", 0, CONFIG)
    assert isinstance(tilted, TiltedPolicy)
    conditions = np.full((500, 3), FREE)
    conditions[:, 2] = 4
    synthetic = tilted.sample(conditions, 1)
    assert (synthetic[:, 2] == 4).all()
    tensors: dict[str, np.ndarray] = {}
    about = json.loads(json.dumps(tilted.state(tensors)))
    assert (TiltedPolicy.from_state(about, tensors).sample(conditions, 1) == synthetic).all()


def test_an_unknown_optimiser_is_refused_and_none_changes_nothing() -> None:
    policy, data = without_association()
    assert improve(policy, data, "none", 0)[0] is policy
    with pytest.raises(InputError, match=str(OPTIMISERS[0])):
        improve(policy, data, "sgd", 0)


def test_too_few_rows_for_discriminators_leave_the_policy_unchanged() -> None:
    policy, data = without_association()
    same, account = improve(policy, replace(data, real=data.real[:30]), "awr", 0, CONFIG)
    assert same is policy
    assert "30 real rows" in account.rounds[0].stopped


def test_a_declared_target_moves_the_outcomes_and_tilt_refuses_one() -> None:
    policy, data = without_association()
    with_target = replace(data, target={1: 0.7, 2: 0.3})
    with pytest.raises(InputError, match="declared target"):
        improve(policy, with_target, "tilt", 0, CONFIG)
    _, share = agreement(policy)
    better, _ = improve(policy, with_target, "awr", 0, CONFIG)
    assert agreement(better)[1] > share + 0.05


def test_an_outcome_with_target_zero_vanishes() -> None:
    policy, data = without_association()
    better, _ = improve(policy, replace(data, target={1: 1.0}), "awr", 0, CONFIG)
    assert agreement(better)[1] < 0.1


def test_a_round_that_makes_real_rows_less_likely_is_undone() -> None:
    policy, data = without_association()
    before = {name: value.clone() for name, value in policy.network.state_dict().items()}
    wild = ImproveConfig(rounds=2, rows=1500, awr=AwrConfig(passes=4, rate=0.3))
    same, account = improve(policy, data, "awr", 0, wild)
    assert len(account.rounds) == 1
    assert "undone" in account.rounds[0].stopped
    assert account.rounds[0].gain_found.low <= 0
    assert all((value == before[name]).all() for name, value in same.network.state_dict().items())


def test_a_round_is_validated_on_rows_that_no_discriminator_saw() -> None:
    """Discriminators learn the association; validation rows without it become less likely, and the round is undone."""
    policy, data = without_association()
    rng = np.random.default_rng(9)
    validation = np.stack([rng.permutation(column) for column in linked(2000, 3).T], axis=1)
    assert improve(without_association()[0], data, "awr", 0, CONFIG)[1].rounds[0].gain_found.low > 0
    _, account = improve(policy, replace(data, validation=validation), "awr", 0, CONFIG)
    assert "undone" in account.rounds[0].stopped


def test_without_validation_rows_nothing_is_improved() -> None:
    policy, data = without_association()
    same, account = improve(policy, replace(data, validation=data.validation[:0]), "awr", 0, CONFIG)
    assert same is policy
    assert "0 for validation" in account.rounds[0].stopped
