"""The policy: an autoregressive distribution over rows of tokens with exact log probabilities and conditional sampling.

Shapes: n rows, d columns. In arguments and results columns are in the table's order; the network has them in the order of generation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from nearward.synth.policy.network import Network, NetworkConfig, smoothing_basis
from nearward.synth.policy.training import TrainConfig, TrainingResult, train
from nearward.tabular.persistence.network_weights import check_weights
from nearward.tabular.typing import Arrays, Bools, Floats, Ints, Progress

FREE = -1  # in conditions: a token to be generated
_BATCH_ROWS = 4096  # whose contexts fit a core's cache
_MIN_SMOOTHED = 7  # tokens: a number with fewer has an embedding of its own for each


class DecodingConstraint(Protocol):
    """A mask of allowed tokens, applied to the logits of each column while a batch of rows is generated."""

    def allowed_tokens(self, column: int, tokens: Ints) -> Bools | None:
        """Return the tokens that a column may have in each row (n, size), None for all; ``tokens`` (n, d) is -1 where not yet generated."""
        ...

    def commit(self, column: int, tokens: Ints) -> Ints:
        """Record a column's sampled tokens (n,), and return the tokens to be used in their place (n,)."""
        ...


class ObservedTokens:
    """Allows the tokens that some training row has: no missing outcome, no RARE category where none is rare."""

    def __init__(self, token_counts: Sequence[Ints]) -> None:
        self._token_counts = token_counts

    def allowed_tokens(self, column: int, tokens: Ints) -> Bools:
        """Return the tokens that a column may have (n, size)."""
        return np.repeat((self._token_counts[column] > 0)[None], len(tokens), axis=0)

    def commit(self, column: int, tokens: Ints) -> Ints:
        """Return sampled tokens unchanged (n,)."""
        return tokens


@dataclass
class Policy:
    """The autoregressive policy.

    Parameters
    ----------
    sizes : (d,), number of tokens of each column
    ordinal : (d,), whether a column's tokens are ordered
    order : (d,), columns in the order of generation
    token_counts : d arrays (size,), training rows with each token: their ranks are the scale of the smoothing basis
    config : NetworkConfig
    """

    sizes: list[int]
    ordinal: list[bool]
    order: list[int]
    token_counts: list[Ints]
    config: NetworkConfig = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        basis = _smoothing_bases(self.sizes, self.ordinal, self.order, self.token_counts, self.config.bumps)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = Network([self.sizes[j] for j in self.order], basis, self.config)
        for step, j in enumerate(self.order):
            # Start from each column's marginal distribution: only the dependence between columns is left to learn.
            count = torch.as_tensor(self.token_counts[j], dtype=torch.float64)
            self.network.bias[step].data = ((count + 0.5) / (float(self.token_counts[j].sum()) + 0.5 * self.sizes[j])).log().float()
        self.network.eval()

    def fit(
        self, tokens: Ints, held_out: Ints, seed: int, config: TrainConfig | None = None, progress: Progress | None = None
    ) -> TrainingResult:
        """Fit to rows (n, d) with early stopping on held-out rows; see ``nearward.synth.policy.training.train``."""
        return train(self.network, tokens[:, self.order], held_out[:, self.order], seed, config or TrainConfig(), progress)

    def sample(self, conditions: Ints, seed: int, make_constraint: Callable[[int], DecodingConstraint] | None = None) -> Ints:
        """Generate rows (n, d).

        Parameters
        ----------
        conditions : (n, d)
            Tokens, or -1 where a token is to be generated. No row is ever rejected to meet them.
        seed : int
        make_constraint : callable, optional
            Returns the constraint of the batch whose first row is given.
        """
        generator = torch.Generator().manual_seed(seed)
        tokens = np.empty(conditions.shape, dtype=np.int64)
        with torch.inference_mode():
            for start in range(0, len(conditions), _BATCH_ROWS):
                rows = slice(start, start + _BATCH_ROWS)
                tokens[rows] = self._sample_batch(conditions[rows], generator, make_constraint(start) if make_constraint else None)
        return tokens

    def _sample_batch(self, conditions: Ints, generator: torch.Generator, constraint: DecodingConstraint | None) -> Ints:
        device, n = self.device, len(conditions)
        tokens = conditions.copy()
        context = torch.zeros(n, self.config.width, device=device)
        fixed = conditions != FREE
        for step, j in enumerate(self.order):
            if fixed[:, j].any():
                is_fixed = torch.as_tensor(fixed[:, j], device=device).unsqueeze(1)
                context += self.network.embed(step, torch.as_tensor(conditions[:, j].clip(0), device=device)) * is_fixed
        for step, j in enumerate(self.order):
            uniform = torch.rand(n, 1, generator=generator)
            if fixed[:, j].all():
                if constraint is not None:
                    constraint.commit(j, tokens[:, j])
                continue
            logits = self.network.logits(step, self.network.features(context, torch.full((n,), step, device=device))).cpu()
            allowed = constraint.allowed_tokens(j, tokens) if constraint is not None else None
            if allowed is not None:
                logits = logits.masked_fill(torch.as_tensor(~allowed), -torch.inf)
            sampled = np.where(fixed[:, j], conditions[:, j], sample_tokens(logits, uniform))
            tokens[:, j] = sampled if constraint is None else constraint.commit(j, sampled)
            embedded = self.network.embed(step, torch.as_tensor(tokens[:, j], device=device))
            context += embedded * torch.as_tensor(~fixed[:, j], device=device).unsqueeze(1)
        return tokens

    def log_prob(self, tokens: Ints, is_condition: Bools | None = None) -> Floats:
        """Return the log probability of each token given those generated before it, exactly (n, d); a row's is the sum.

        Parameters
        ----------
        tokens : (n, d)
        is_condition : (n, d), optional
            True where a token is a condition: it is in the context of all columns, and its own log probability is 0.
        """
        out = np.zeros(tokens.shape)
        is_condition = np.zeros(tokens.shape, dtype=bool) if is_condition is None else is_condition
        with torch.no_grad():
            for start in range(0, len(tokens), _BATCH_ROWS):
                rows = slice(start, start + _BATCH_ROWS)
                x = torch.as_tensor(tokens[rows][:, self.order], device=self.device)
                mask = torch.as_tensor(is_condition[rows][:, self.order], device=self.device)
                out[rows, self.order] = self.network(x, mask).double().cpu().numpy()
        return out

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.network.parameters()).device

    def state(self, tensors: Arrays) -> dict[str, Any]:
        """Return everything but weights and counts as JSON; these are put into ``tensors``."""
        for name, value in self.network.state_dict().items():
            tensors[f"policy.{name}"] = value.detach().cpu().numpy()
        for j, count in enumerate(self.token_counts):
            tensors[f"policy_rows.{j}"] = count
        return {"kind": "network", "order": self.order, "sizes": self.sizes, "ordered": self.ordinal, "config": asdict(self.config)}

    @classmethod
    def from_state(cls, state: dict[str, Any], tensors: Arrays) -> Policy:
        """Return the policy that ``state`` describes."""
        token_counts = [tensors[f"policy_rows.{j}"] for j in range(len(state["sizes"]))]
        config = NetworkConfig(**state["config"])
        weights = {name.removeprefix("policy."): torch.as_tensor(value) for name, value in tensors.items() if name.startswith("policy.")}
        sizes, order = state["sizes"], state["order"]
        basis = _smoothing_bases(sizes, state["ordered"], order, token_counts, config.bumps)
        check_weights(lambda: Network([sizes[j] for j in order], basis, config), weights)
        policy = cls(sizes, state["ordered"], order, token_counts, config)
        policy.network.load_state_dict(weights)
        return policy


def _smoothing_bases(sizes: list[int], ordinal: list[bool], order: list[int], token_counts: list[Ints], bumps: int) -> list[Tensor]:
    """Return the basis of each column in the order of generation, of width 0 where tokens are not smoothed."""
    is_smoothed = [ordered and size >= _MIN_SMOOTHED for ordered, size in zip(ordinal, sizes, strict=True)]
    return [smoothing_basis(torch.as_tensor(token_counts[j]), bumps) if is_smoothed[j] else torch.zeros(sizes[j], 0) for j in order]


def sample_tokens(logits: Tensor, uniform: Tensor) -> Ints:
    """Sample a token of each row by the inverse distribution function: logits (n, size), uniform (n, 1) from 0 to 1 -> (n,)."""
    cumulative = torch.softmax(logits.double(), dim=1).cumsum(dim=1)
    tokens = (cumulative < uniform * cumulative[:, -1:]).sum(dim=1)
    return np.asarray(tokens.clamp(max=logits.shape[1] - 1).numpy())
