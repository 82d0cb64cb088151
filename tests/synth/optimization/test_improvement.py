"""The three optimisers on a policy that was never told of a link: critics tell it, the rare outcome keeps its share."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from nearward.synth.optimization.awr import AwrConfig
from nearward.synth.optimization.improvement import OPTIMISERS, ImproveConfig, ImprovementData, improve
from nearward.synth.optimization.ppo import PpoConfig
from nearward.synth.optimization.tilted import Tilted
from nearward.synth.policy.autoregressive import FREE, ObservedTokens, Policy
from nearward.tabular.errors import InputError

CONFIG = ImproveConfig(rounds=2, rows=3000, ppo=PpoConfig(rounds=6, rows=1024, rate=1e-3, kl_target=0.05, penalty=0.1))


def linked(n: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    outcome = 1 + (draw.random(n) < 0.1)
    a = draw.integers(1, 5, n)
    b = np.where(draw.random(n) < 0.7, a, draw.integers(1, 5, n))
    return np.stack([outcome, a, b], axis=1)


def unaware() -> tuple[Policy, ImprovementData]:
    """A policy that knows each column's shares and no link."""
    learned = linked(2000, 0)
    policy = Policy([3, 5, 5], [False] * 3, [0, 1, 2], [np.bincount(learned[:, j], minlength=s) for j, s in enumerate((3, 5, 5))])
    return policy, ImprovementData(learned, linked(800, 1), None, linked(2000, 3), None, outcome=0, rare=2, groups=[(1, 2)])


def agreement(policy) -> tuple[float, float]:
    made = policy.sample(np.full((6000, 3), FREE), 5, lambda first: ObservedTokens(policy.token_counts))
    return float((made[:, 1] == made[:, 2]).mean()), float((made[:, 0] == 2).mean())


@pytest.mark.parametrize("optimiser", ["tilt", "awr", "ppo"])
def test_every_optimiser_learns_the_link_and_keeps_the_rare_outcome(optimiser) -> None:
    policy, ground = unaware()
    before, share = agreement(policy)
    better, account = improve(policy, ground, optimiser, 0, CONFIG)
    after, kept = agreement(better)
    assert before < 0.3
    assert after > before + 0.08  # 0.775 among real rows
    assert kept == pytest.approx(share, abs=0.02)
    assert json.loads(json.dumps(account)) == account
    first = account["rounds"][0]
    assert first["critics"]["row"]["low"] > 0.5  # critics could tell before anything was learned from them
    assert first["gain"] > 0
    if optimiser != "tilt":
        assert first["gain found"]["low"] > 0  # nats that real rows won
    if optimiser == "ppo":
        assert all(abs(round_["kl"]) < 0.5 for told in account["rounds"] for round_ in told.get("ppo", []))


def test_nothing_is_learned_from_critics_that_cannot_tell() -> None:
    _, ground = unaware()
    lonely = ground.learned.copy()
    for j in range(3):
        lonely[:, j] = np.random.default_rng(j).permutation(lonely[:, j])
    policy = Policy([3, 5, 5], [False] * 3, [0, 1, 2], [np.bincount(lonely[:, j], minlength=s) for j, s in enumerate((3, 5, 5))])
    real = np.stack([np.random.default_rng(10 + j).permutation(linked(800, 2)[:, j]) for j in range(3)], axis=1)
    before = policy.network.state_dict()["norm_out.weight"].clone()
    _, account = improve(policy, ImprovementData(lonely, real, None, real, None, 0, 2), "ppo", 3, CONFIG)
    assert "stopped" in account["rounds"][-1]
    assert len(account["rounds"]) == 1
    assert (policy.network.state_dict()["norm_out.weight"] == before).all()


def test_a_tilted_policy_meets_conditions_and_comes_back_from_its_state() -> None:
    policy, ground = unaware()
    tilted, _ = improve(policy, ground, "tilt", 0, CONFIG)
    assert isinstance(tilted, Tilted)
    given = np.full((500, 3), FREE)
    given[:, 2] = 4
    made = tilted.sample(given, 1)
    assert (made[:, 2] == 4).all()
    tensors: dict[str, np.ndarray] = {}
    about = json.loads(json.dumps(tilted.state(tensors)))
    assert (Tilted.from_state(about, tensors).sample(given, 1) == made).all()


def test_an_unknown_optimiser_is_refused_and_none_changes_nothing() -> None:
    policy, ground = unaware()
    assert improve(policy, ground, "none", 0)[0] is policy
    with pytest.raises(InputError, match=str(OPTIMISERS[0])):
        improve(policy, ground, "sgd", 0)


def test_too_few_rows_for_critics_leave_the_policy_as_it_was_and_say_so() -> None:
    policy, ground = unaware()
    same, account = improve(policy, replace(ground, real=ground.real[:30]), "awr", 0, CONFIG)
    assert same is policy
    assert "30 real rows" in account["rounds"][0]["stopped"]


def test_a_declared_target_moves_the_outcomes_and_tilt_refuses_one() -> None:
    policy, ground = unaware()
    wanted = replace(ground, target={1: 0.7, 2: 0.3})
    with pytest.raises(InputError, match="declared target"):
        improve(policy, wanted, "tilt", 0, CONFIG)
    _, share = agreement(policy)
    better, _ = improve(policy, wanted, "awr", 0, CONFIG)
    assert agreement(better)[1] > share + 0.05


def test_an_outcome_that_is_not_wanted_breaks_nothing() -> None:
    policy, ground = unaware()
    better, _ = improve(policy, replace(ground, target={1: 1.0}), "awr", 0, CONFIG)
    assert agreement(better)[1] < 0.1


def test_a_round_that_makes_real_rows_less_likely_is_undone() -> None:
    policy, ground = unaware()
    before = {name: value.clone() for name, value in policy.network.state_dict().items()}
    wild = ImproveConfig(rounds=2, rows=1500, awr=AwrConfig(passes=4, rate=0.3))
    same, account = improve(policy, ground, "awr", 0, wild)
    assert len(account["rounds"]) == 1
    assert "undone" in account["rounds"][0]["stopped"]
    assert account["rounds"][0]["gain found"]["low"] <= 0
    assert all((value == before[name]).all() for name, value in same.network.state_dict().items())


def test_whether_a_round_is_kept_is_decided_on_rows_that_no_critic_saw() -> None:
    """Critics learn the link from their rows; judges without it see it made less likely, and the round is undone."""
    policy, ground = unaware()
    draw = np.random.default_rng(9)
    judges = np.stack([draw.permutation(column) for column in linked(2000, 3).T], axis=1)
    assert improve(unaware()[0], ground, "awr", 0, CONFIG)[1]["rounds"][0]["gain found"]["low"] > 0
    _, account = improve(policy, replace(ground, judges=judges), "awr", 0, CONFIG)
    assert "undone" in account["rounds"][0]["stopped"]


def test_without_judges_nothing_is_improved() -> None:
    policy, ground = unaware()
    same, account = improve(policy, replace(ground, judges=ground.judges[:0]), "awr", 0, CONFIG)
    assert same is policy
    assert "0 to judge a round by" in account["rounds"][0]["stopped"]
