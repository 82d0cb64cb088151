"""The third optimiser: proximal policy optimisation, a column a step, with a critic, a clip, and a penalty towards where it began.

Rewards are dense: tokens and sentences where they are written, a feature group at its last column, the row at the end. Advantages are
shaped within each outcome (``nearward.synth.optimization.reward_shaping``), so that the rare one is heard and the sampled prior stays.

Letters: n rows, d columns (steps), b rows of a minibatch, w width.

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
from nearward.tabular.typing import Floats, Ints


@dataclass(frozen=True)
class PpoConfig:
    """How the policy is improved.

    Parameters
    ----------
    rounds : int
        Times that rows are drawn and learned from.
    rows : int
        Rows a round.
    epochs : int
        Passes over a round's rows.
    batch : int
        Rows a step.
    rate, critic_rate : float
        Learning rates of the policy and of the critic.
    gamma, lam : float
        Discount (none: a row is short) and λ of the advantages.
    clip : float
        How far a probability ratio may move within a round.
    entropy : float
        Weight of the entropy bonus, in nats a column.
    kl_target : float
        Divergence from where it began, nats a column: beyond it the penalty doubles, well below it halves.
    penalty : float
        Weight of the divergence at first.
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
    """Return generalised advantages and returns, both (n, d); a row ends with its last column.

    Parameters
    ----------
    rewards, values : (n, d)

    Examples
    --------
    >>> gae(np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]]), gamma=1.0, lam=1.0)[0].tolist()
    [[0.5, 0.5]]
    """
    advantage = np.zeros_like(rewards)
    ahead, following = np.zeros(len(rewards)), np.zeros(len(rewards))
    for t in range(rewards.shape[1] - 1, -1, -1):
        surprise = rewards[:, t] + gamma * following - values[:, t]
        ahead = surprise + gamma * lam * ahead
        advantage[:, t], following = ahead, values[:, t]
    return advantage, advantage + values


def ppo_loss(new: Tensor, old: Tensor, advantage: Tensor, clip: float = 0.2) -> tuple[Tensor, Tensor, Tensor]:
    """Return the clipped surrogate loss and two diagnostics, all scalars.

    Parameters
    ----------
    new, old : (b, d), log probabilities of the written tokens now and when they were drawn
    advantage : (b, d)
    clip : float

    Returns
    -------
    loss : −mean min(r A, clip(r) A), r the probability ratio
    approx_kl : mean (r − 1 − log r)
    clipfrac : share of cells whose ratio lies outside the clip
    """
    gap = new - old
    ratio = gap.exp()
    loss = -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()
    with torch.no_grad():
        return loss, (ratio - 1 - gap).mean(), ((ratio - 1).abs() > clip).double().mean()


def explained_variance(returns: Floats, values: Floats) -> float:
    """Return the share of the returns' variance that the critic foresees; 0 where nothing varies."""
    spread = float(returns.var())
    return 1 - float((returns - values).var()) / spread if spread > 0 else 0.0


class Critic(nn.Module):
    """Foresees what a row will still earn, from what is known of it before each column."""

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.column = nn.Embedding(columns, 64)
        self.read = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 64))
        self.tell = nn.Sequential(nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1))

    def forward(self, known: Tensor) -> Tensor:
        """Return the value (b, d) of what is known (b, d, w)."""
        at = torch.arange(known.shape[1], device=known.device)
        value: Tensor = self.tell(self.read(known) + self.column(at)).squeeze(-1)
        return value


def improve_by_ppo(
    network: Network,
    draw_rows: Callable[[int, int], Ints],
    reward: Callable[[Ints], tuple[Floats, dict[str, float]]],
    shape_advantage: Callable[[Floats, Ints], Floats],
    seed: int,
    config: PpoConfig | None = None,
    progress: Callable[..., None] | None = None,
) -> list[dict[str, float]]:
    """Improve a network.

    Parameters
    ----------
    network : Network, changed in place
    draw_rows : callable
        (rows, seed) -> tokens (n, d) in the network's order, drawn with the network as it then is.
    reward : callable
        tokens (n, d) -> rewards (n, d) where they are earned, and the mean reward of each level.
    shape_advantage : callable
        (advantages (n, d), tokens (n, d)) -> shaped advantages (n, d).
    seed : int
    config : PpoConfig, optional
    progress : callable, optional
        Called after each round with a few words.

    Returns
    -------
    list of dict, one a round: ``reward``, ``reward_<level>``, ``approx_kl``, ``clipfrac``, ``explained_variance``, ``entropy``, ``kl``
    (to where it began, nats a column), ``penalty``
    """
    config = config or PpoConfig()
    device = next(network.parameters()).device
    generator = np.random.default_rng(seed)
    told: list[dict[str, float]] = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        began = copy.deepcopy(network).eval()
        critic = Critic(len(network.sizes), began.shift.weight.shape[1]).to(device)
        optimiser = torch.optim.Adam(network.parameters(), lr=config.rate, eps=1e-5)
        learner = torch.optim.Adam(critic.parameters(), lr=config.critic_rate)
        penalty = config.penalty
        network.eval()  # dropout off: a ratio must not move because another unit was dropped
        for turn in range(config.rounds):
            tokens = draw_rows(config.rows, int(generator.integers(2**31)))
            earned, levels = reward(tokens)
            x = torch.as_tensor(tokens, device=device)
            free = torch.zeros_like(x, dtype=torch.bool)
            with torch.no_grad():
                old, reference, known = network(x, free), began(x, free), began.context(x, free)
                values = critic(known).double().cpu().numpy()
            advantage, returns = gae(earned, values, config.gamma, config.lam)
            a = torch.as_tensor(shape_advantage(advantage, tokens), dtype=torch.float32, device=device)
            target = torch.as_tensor(returns, dtype=torch.float32, device=device)
            sums = {"approx_kl": 0.0, "clipfrac": 0.0, "entropy": 0.0, "kl": 0.0}
            parts = [
                rows for _ in range(config.epochs) for rows in np.array_split(generator.permutation(len(x)), -(-len(x) // config.batch))
            ]
            for rows in parts:
                new, entropy = _told(network, x[rows])
                loss, kl, cut = ppo_loss(new, old[rows], a[rows], config.clip)
                apart = reference[rows] - new
                away = (apart.exp() - 1 - apart).mean()
                optimiser.zero_grad(set_to_none=True)
                (loss + penalty * away - config.entropy * entropy).backward()
                nn.utils.clip_grad_norm_(network.parameters(), 0.5)
                optimiser.step()
                learner.zero_grad(set_to_none=True)
                nn.functional.mse_loss(critic(known[rows]), target[rows]).backward()  # type: ignore[no-untyped-call]
                learner.step()
                for name, value in zip(sums, (kl, cut, entropy, away), strict=True):
                    sums[name] += float(value.detach()) / len(parts)
            told.append(
                {
                    "reward": float(earned.sum(axis=1).mean()),
                    **{f"reward_{name}": value for name, value in levels.items()},
                    **sums,
                    "explained_variance": explained_variance(returns, values),
                    "penalty": penalty,
                }
            )
            penalty *= 2.0 if sums["kl"] > 1.5 * config.kl_target else 0.5 if sums["kl"] < config.kl_target / 1.5 else 1.0
            if progress is not None:
                progress(f"ppo, round {turn + 1} of {config.rounds}")
    return told


def _told(network: Network, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log probability of each cell (b, d) and the mean entropy of a column."""
    known = network.context(tokens, torch.zeros_like(tokens, dtype=torch.bool))
    features = network.features(known, torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape))
    each, entropy = [], []
    for j in range(tokens.shape[1]):
        logs = network.logits(j, features[:, j]).log_softmax(dim=1)
        each.append(logs.gather(1, tokens[:, j : j + 1]).squeeze(1))
        entropy.append(-(logs.exp() * logs).sum(dim=1).mean())
    return torch.stack(each, dim=1), torch.stack(entropy).mean()
