"""Optimiser ``ppo``: proximal policy optimisation with a critic, clipped ratios and a KL penalty towards the initial policy.

A step samples one column. Rewards are dense: tokens and sentences at their column, a feature group at its last column, the row at the
end. Advantages are shaped within each outcome (``nearward.synth.optimization.reward_shaping``), so that the rare outcome has weight and
the sampled prior stays.

Shapes: n rows, d columns (steps), b rows of a minibatch, w width.

References
----------
Schulman et al.: Proximal policy optimization algorithms (2017). Schulman et al.: High-dimensional continuous control using generalized
advantage estimation (2016). Schulman: Approximating KL divergence (2020), the estimator of ``approx_kl``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nearward.synth.policy.network import Network
from nearward.tabular.typing import Floats, Ints, Progress


@dataclass(frozen=True)
class PpoConfig:
    """Settings of PPO.

    Parameters
    ----------
    rounds : int
        Rollouts, each followed by updates.
    rows : int
        Rows per rollout.
    epochs : int
        Passes over a rollout.
    batch : int
        Rows per minibatch.
    rate, critic_rate : float
        Learning rates of the policy and of the critic.
    gamma, lam : float
        Discount factor (1: a row is short) and λ of generalised advantage estimation.
    clip : float
        Clip range of the probability ratio.
    entropy : float
        Weight of the entropy bonus, in nats per column.
    kl_target : float
        KL divergence from the initial policy, nats per column: well above it the penalty doubles, well below it halves.
    penalty : float
        Initial weight of the KL divergence.
    """

    rounds: int = 8
    rows: int = 2048
    epochs: int = 2
    batch: int = 256
    rate: float = 2e-4
    critic_rate: float = 2e-3
    gamma: float = 1.0
    lam: float = 0.95
    clip: float = 0.2
    entropy: float = 1e-3
    kl_target: float = 0.01
    penalty: float = 1.0


def gae(rewards: Floats, values: Floats, gamma: float = 1.0, lam: float = 0.95) -> tuple[Floats, Floats]:
    """Return generalised advantage estimates and returns, both (n, d); the last column ends the episode.

    Parameters
    ----------
    rewards, values : (n, d)

    Examples
    --------
    >>> gae(np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]]), gamma=1.0, lam=1.0)[0].tolist()
    [[0.5, 0.5]]
    """
    advantage = np.zeros_like(rewards)
    accumulated, next_value = np.zeros(len(rewards)), np.zeros(len(rewards))
    for t in range(rewards.shape[1] - 1, -1, -1):
        td_error = rewards[:, t] + gamma * next_value - values[:, t]
        accumulated = td_error + gamma * lam * accumulated
        advantage[:, t], next_value = accumulated, values[:, t]
    return advantage, advantage + values


def ppo_loss(new: Tensor, old: Tensor, advantage: Tensor, clip: float = 0.2) -> tuple[Tensor, Tensor, Tensor]:
    """Return the clipped surrogate loss and two diagnostics, all scalars.

    Parameters
    ----------
    new, old : (b, d), log probabilities of the tokens under the current policy and at the rollout
    advantage : (b, d)
    clip : float

    Returns
    -------
    loss : −mean min(r A, clip(r) A), r the probability ratio
    approx_kl : mean (r − 1 − log r)
    clipfrac : share of steps with a clipped ratio
    """
    log_ratio = new - old
    ratio = log_ratio.exp()
    loss = -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()
    with torch.no_grad():
        return loss, (ratio - 1 - log_ratio).mean(), ((ratio - 1).abs() > clip).double().mean()


def explained_variance(returns: Floats, values: Floats) -> float:
    """Return the share of the returns' variance that the critic explains; 0 where the returns are constant."""
    variance = float(returns.var())
    return 1 - float((returns - values).var()) / variance if variance > 0 else 0.0


class Critic(nn.Module):
    """Value function: expected return from the state before each column."""

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.column = nn.Embedding(columns, 64)
        self.state_proj = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 64))
        self.value_head = nn.Sequential(nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1))

    def forward(self, state: Tensor) -> Tensor:
        """Return the values (b, d) of states (b, d, w)."""
        column = torch.arange(state.shape[1], device=state.device)
        value: Tensor = self.value_head(self.state_proj(state) + self.column(column)).squeeze(-1)
        return value


def improve_by_ppo(
    network: Network,
    rollout: Callable[[int, int], Ints],
    reward: Callable[[Ints], tuple[Floats, dict[str, float]]],
    shape_advantage: Callable[[Floats, Ints], Floats],
    seed: int,
    config: PpoConfig | None = None,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Improve the policy's network by PPO.

    Parameters
    ----------
    network : Network, changed in place
    rollout : callable
        (rows, seed) -> tokens (n, d) in the network's order, sampled from the current network.
    reward : callable
        tokens (n, d) -> rewards (n, d) of each step, and the mean reward of each granularity.
    shape_advantage : callable
        (advantages (n, d), tokens (n, d)) -> shaped advantages (n, d).
    seed : int
    config : PpoConfig, optional
    progress : callable, optional
        Called after each round with a message.

    Returns
    -------
    list of dict, one per round: ``reward``, ``reward_<granularity>``, ``approx_kl``, ``clipfrac``, ``explained_variance``, ``entropy``,
    ``kl`` (from the initial policy, nats per column), ``penalty``
    """
    config = config or PpoConfig()
    device = next(network.parameters()).device
    rng = np.random.default_rng(seed)
    diagnostics: list[dict[str, float]] = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        initial = copy.deepcopy(network).eval()
        critic = Critic(len(network.sizes), initial.shift.weight.shape[1]).to(device)
        policy_optimiser = torch.optim.Adam(network.parameters(), lr=config.rate, eps=1e-5)
        critic_optimiser = torch.optim.Adam(critic.parameters(), lr=config.critic_rate)
        penalty = config.penalty
        network.eval()  # dropout off: it would change the probability ratios
        for round_ in range(config.rounds):
            tokens = rollout(config.rows, int(rng.integers(2**31)))
            rewards, granularity_rewards = reward(tokens)
            x = torch.as_tensor(tokens, device=device)
            free = torch.zeros_like(x, dtype=torch.bool)
            with torch.no_grad():
                old, reference, state = network(x, free), initial(x, free), initial.context(x, free)
                values = critic(state).double().cpu().numpy()
            advantage, returns = gae(rewards, values, config.gamma, config.lam)
            a = torch.as_tensor(shape_advantage(advantage, tokens), dtype=torch.float32, device=device)
            target = torch.as_tensor(returns, dtype=torch.float32, device=device)
            sums = {"approx_kl": 0.0, "clipfrac": 0.0, "entropy": 0.0, "kl": 0.0}
            minibatches = [
                rows for _ in range(config.epochs) for rows in np.array_split(rng.permutation(len(x)), -(-len(x) // config.batch))
            ]
            for rows in minibatches:
                new, entropy = _log_prob_and_entropy(network, x[rows])
                loss, approx_kl, clipfrac = ppo_loss(new, old[rows], a[rows], config.clip)
                log_ratio = reference[rows] - new
                kl = (log_ratio.exp() - 1 - log_ratio).mean()
                policy_optimiser.zero_grad(set_to_none=True)
                (loss + penalty * kl - config.entropy * entropy).backward()
                nn.utils.clip_grad_norm_(network.parameters(), 0.5)
                policy_optimiser.step()
                critic_optimiser.zero_grad(set_to_none=True)
                nn.functional.mse_loss(critic(state[rows]), target[rows]).backward()  # type: ignore[no-untyped-call]
                critic_optimiser.step()
                for name, value in zip(sums, (approx_kl, clipfrac, entropy, kl), strict=True):
                    sums[name] += float(value.detach()) / len(minibatches)
            diagnostics.append(
                {
                    "reward": float(rewards.sum(axis=1).mean()),
                    **{f"reward_{name}": value for name, value in granularity_rewards.items()},
                    **sums,
                    "explained_variance": explained_variance(returns, values),
                    "penalty": penalty,
                }
            )
            penalty *= 2.0 if sums["kl"] > 1.5 * config.kl_target else 0.5 if sums["kl"] < config.kl_target / 1.5 else 1.0
            if progress is not None:
                progress(f"ppo, round {round_ + 1} of {config.rounds}")
    return diagnostics


def _log_prob_and_entropy(network: Network, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log probability of each step (b, d) and the mean entropy of a column."""
    state = network.context(tokens, torch.zeros_like(tokens, dtype=torch.bool))
    features = network.features(state, torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape))
    log_prob, entropy = [], []
    for j in range(tokens.shape[1]):
        logs = network.logits(j, features[:, j]).log_softmax(dim=1)
        log_prob.append(logs.gather(1, tokens[:, j : j + 1]).squeeze(1))
        entropy.append(-(logs.exp() * logs).sum(dim=1).mean())
    return torch.stack(log_prob, dim=1), torch.stack(entropy).mean()
