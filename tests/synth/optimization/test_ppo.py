"""PPO's pure functions against slow references, and PPO on a small network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nearward.synth.optimization.ppo import PpoConfig, explained_variance, gae, improve_by_ppo, ppo_loss
from nearward.synth.policy.autoregressive import sample_tokens
from nearward.synth.policy.network import Network, NetworkConfig


def slow_gae(rewards: np.ndarray, values: np.ndarray, gamma: float, lam: float) -> np.ndarray:
    """Advantages by their definition: a sum of discounted TD errors."""
    n, d = rewards.shape
    out = np.zeros((n, d))
    for i in range(n):
        td_error = [rewards[i, t] + gamma * (values[i, t + 1] if t + 1 < d else 0.0) - values[i, t] for t in range(d)]
        for t in range(d):
            out[i, t] = sum((gamma * lam) ** (s - t) * td_error[s] for s in range(t, d))
    return out


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.8, 0.0)])
def test_gae_equals_its_definition(gamma, lam) -> None:
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(5, 7)), rng.normal(size=(5, 7))
    advantage, returns = gae(rewards, values, gamma, lam)
    assert advantage == pytest.approx(slow_gae(rewards, values, gamma, lam))
    assert returns == pytest.approx(advantage + values)


def test_gae_with_lambda_one_is_the_return_less_the_value() -> None:
    rewards, values = np.array([[1.0, 2.0, 3.0]]), np.array([[0.5, 0.5, 0.5]])
    assert gae(rewards, values, 1.0, 1.0)[0].tolist() == [[5.5, 4.5, 2.5]]


def test_the_loss_equals_a_loop() -> None:
    rng = np.random.default_rng(1)
    new, old, advantage = (rng.normal(0, 0.3, (6, 4)) for _ in range(3))
    total, kl, cut = 0.0, 0.0, 0
    for n, o, a in zip(new.ravel(), old.ravel(), advantage.ravel(), strict=True):
        ratio = np.exp(n - o)
        total += min(ratio * a, min(max(ratio, 0.8), 1.2) * a)
        kl += ratio - 1 - (n - o)
        cut += abs(ratio - 1) > 0.2
    loss, approx_kl, clipfrac = ppo_loss(*(torch.as_tensor(x) for x in (new, old, advantage)))
    assert float(loss) == pytest.approx(-total / 24)
    assert float(approx_kl) == pytest.approx(kl / 24)
    assert float(clipfrac) == pytest.approx(cut / 24)
    assert 0 < cut < 24


def test_no_gradient_flows_through_a_clipped_ratio() -> None:
    new = torch.tensor([[0.5, -0.5, 0.0]], requires_grad=True)
    loss, _, _ = ppo_loss(new, torch.zeros(1, 3), torch.tensor([[1.0, -1.0, 1.0]]))
    loss.backward()
    assert new.grad.numpy() == pytest.approx(np.array([[0, 0, -1 / 3]]))


def test_explained_variance_by_hand() -> None:
    assert explained_variance(np.array([1.0, 3.0]), np.array([1.0, 3.0])) == 1
    assert explained_variance(np.array([1.0, 3.0]), np.array([0.0, 0.0])) == 0
    assert explained_variance(np.array([2.0, 2.0]), np.array([0.0, 1.0])) == 0


def test_ppo_raises_the_reward_and_bounds_the_divergence() -> None:
    torch.manual_seed(0)
    network = Network([3, 3], [torch.zeros(3, 0), torch.zeros(3, 0)], NetworkConfig(width=16, hidden=16, blocks=1))
    network.eval()

    def rollout(n: int, seed: int) -> np.ndarray:
        generator, tokens, state = torch.Generator().manual_seed(seed), np.zeros((n, 2), dtype=np.int64), torch.zeros(n, 16)
        with torch.no_grad():
            for j in range(2):
                logits = network.logits(j, network.features(state, torch.full((n,), j)))
                tokens[:, j] = sample_tokens(logits, torch.rand(n, 1, generator=generator))
                state = state + network.embed(j, torch.as_tensor(tokens[:, j]))
        return tokens

    def reward(tokens: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        rewards = np.zeros(tokens.shape)
        rewards[:, 1] = tokens[:, 0] == tokens[:, 1]  # of the whole row, at its last step
        return rewards, {"row": float(rewards.sum(axis=1).mean())}

    def standardise(advantage: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return (advantage - advantage.mean()) / (advantage.std() + 1e-8)

    config = PpoConfig(rounds=15, rows=512, rate=3e-3, kl_target=0.2, penalty=0.01)
    diagnostics = improve_by_ppo(network, rollout, reward, standardise, 0, config)
    assert diagnostics[0]["reward"] == pytest.approx(1 / 3, abs=0.1)
    assert diagnostics[-1]["reward"] > 0.55
    assert max(round_["approx_kl"] for round_ in diagnostics) < 0.1
    assert {"reward_row", "clipfrac", "explained_variance", "entropy", "kl", "penalty"} <= set(diagnostics[-1])
