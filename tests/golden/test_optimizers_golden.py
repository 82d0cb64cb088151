"""Golden numbers of the optimisers of the synthesizer, on a policy of independent columns; see test_golden.py.

A table that is small enough for a test is fitted too well by the real policy: its discriminators are at chance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

# The only module paths of this file; adapt them here.
from nearward.synth.optimization.account import ImprovementAccount
from nearward.synth.optimization.awr import AwrConfig
from nearward.synth.optimization.improvement import ImproveConfig, ImprovementData, improve
from nearward.synth.optimization.ppo import PpoConfig
from nearward.synth.policy.autoregressive import FREE, ObservedTokens, Policy


def in_golden_shape(account: ImprovementAccount) -> dict[str, Any]:
    """The account with the golden file's name of the discriminators."""
    content = account.to_dict()
    return content | {"rounds": [{"critics": round_.pop("discriminators")} | round_ for round_ in content["rounds"]]}


def linked(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    outcome, a = 1 + (rng.random(n) < 0.1), rng.integers(1, 5, n)
    return np.stack([outcome, a, np.where(rng.random(n) < 0.7, a, rng.integers(1, 5, n))], axis=1)


@pytest.mark.parametrize("optimiser", ["tilt", "awr", "ppo"])
def test_improved_policy(golden: Callable[..., None], optimiser: Any) -> None:
    learned = linked(1000, 0)
    sizes = (3, 5, 5)
    policy = Policy(list(sizes), [False] * 3, [0, 1, 2], [np.bincount(learned[:, j], minlength=size) for j, size in enumerate(sizes)])
    data = ImprovementData(learned, linked(500, 1), None, linked(1000, 3), None, outcome_column=0, rare_token=2, column_groups=[(1, 2)])
    ppo = PpoConfig(rounds=2, rows=512, rate=1e-3, kl_target=0.05, penalty=0.1)
    improved, account = improve(policy, data, optimiser, 0, ImproveConfig(rounds=1, rows=1500, awr=AwrConfig(), ppo=ppo))
    rows = improved.sample(np.full((1000, 3), FREE), 5, lambda first: ObservedTokens(policy.token_counts))
    counts = np.bincount(rows[:, 1] * 5 + rows[:, 2], minlength=25)[6:]
    agreement = float((rows[:, 1] == rows[:, 2]).mean())
    golden(
        f"optimiser, {optimiser}",
        {"account": in_golden_shape(account), "first rows": rows[:4], "pairs": counts[:14], "agreement": agreement},
    )
