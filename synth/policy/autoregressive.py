"""The policy: a distribution over rows of tokens, learned column by column, that can be asked, drawn from and kept.

Whoever brings another distribution (differentially private marginals, say) offers the same four things as ``Policy``: ``fit``, ``sample``,
``log_prob`` and ``state``.

Letters: n rows, d columns. Outside this file columns are in the table's order, inside in the order they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearward.synth.policy.network import Network, NetworkConfig, smooth_functions
from nearward.synth.policy.training import TrainConfig, train
from nearward.tabular.typing import Arrays, Bools, Floats, Ints

FREE = -1  # in conditions: a cell to be drawn
_ROWS_AT_ONCE = 4096  # their sums fit a core's cache


class Limits(Protocol):
    """What may be written where: rules, asked before a column of the rows is drawn and told what was drawn."""

    def allowed(self, column: int, tokens: Ints) -> Bools | None:
        """Return which tokens (n, size) of a column the rows may have, or None for all; ``tokens`` (n, d) is -1 where nothing is yet."""
        ...

    def written(self, column: int, tokens: Ints) -> Ints:
        """Take note of a column's drawn tokens (n,), and return what is written in their place (n,)."""
        ...


class OnlySeen:
    """Lets no token be written that no learned row has: a missing outcome, a RARE level where none is rare."""

    def __init__(self, rows: Sequence[Ints]) -> None:
        self._rows = rows

    def allowed(self, column: int, tokens: Ints) -> NDArray[np.bool_]:
        """Return which tokens of a column the rows may have (n, size)."""
        seen = self._rows[column] > 0
        return np.repeat(seen[None], len(tokens), axis=0)

    def written(self, column: int, tokens: Ints) -> Ints:
        """Return drawn tokens as they are (n,)."""
        return tokens


class AnyPolicy(Protocol):
    """What the synthesizer asks of a distribution over rows."""

    def sample(self, given: Ints, seed: int, limits: Callable[[int], Limits] | None = None) -> Ints:
        """Draw rows (n, d) with the conditions ``given`` (n, d), -1 where free."""
        ...

    def log_prob(self, tokens: Ints) -> Floats:
        """Return the log probability of each cell given those written before it (n, d)."""
        ...

    def state(self, tensors: Arrays) -> dict[str, Any]:
        """Return what is needed to rebuild it as JSON, arrays put into ``tensors``."""
        ...


@dataclass
class Policy:
    """The learned policy.

    Parameters
    ----------
    sizes : (d,), tokens of each column
    ordered : (d,), whether a column's tokens lie in an order
    order : (d,), columns in the order they are written
    rows : d arrays (size,), how many training rows have each token: the scale of the smooth functions
    config : NetworkConfig
    """

    sizes: list[int]
    ordered: list[bool]
    order: list[int]
    rows: list[Ints]
    config: NetworkConfig = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        smooth = [
            smooth_functions(torch.as_tensor(self.rows[j])) if self.ordered[j] and self.sizes[j] > 6 else torch.zeros(self.sizes[j], 0)
            for j in self.order
        ]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = Network([self.sizes[j] for j in self.order], smooth, self.config)
        for place, j in enumerate(self.order):
            # begins at each column's own shares: what is left to learn is how columns hang together
            share = (torch.as_tensor(self.rows[j], dtype=torch.float64) + 0.5) / (float(self.rows[j].sum()) + 0.5 * self.sizes[j])
            self.network.bias[place].data = share.log().float()
        self.network.eval()

    def fit(
        self, tokens: Ints, held_out: Ints, seed: int, config: TrainConfig | None = None, progress: Callable[..., None] | None = None
    ) -> dict[str, float]:
        """Learn from rows (n, d), as long as it helps on held-out rows; see ``nearward.synth.policy.training.train``."""
        return train(self.network, tokens[:, self.order], held_out[:, self.order], seed, config or TrainConfig(), progress)

    def log_prob(self, tokens: Ints, given: Bools | None = None) -> Floats:
        """Return the log probability of each cell given those written before it, exactly (n, d); a row's is the sum.

        Parameters
        ----------
        tokens : (n, d)
        given : (n, d), optional
            True where a cell is a condition: it is known to all cells, and its own log probability is 0.
        """
        out = np.zeros(tokens.shape)
        device = self.device
        known = np.zeros(tokens.shape, dtype=bool) if given is None else given
        with torch.no_grad():
            for start in range(0, len(tokens), _ROWS_AT_ONCE):
                rows = slice(start, start + _ROWS_AT_ONCE)
                x = torch.as_tensor(tokens[rows][:, self.order], device=device)
                mask = torch.as_tensor(known[rows][:, self.order], device=device)
                out[rows, self.order] = self.network(x, mask).double().cpu().numpy()
        return out

    def sample(self, given: Ints, seed: int, limits: Callable[[int], Limits] | None = None) -> Ints:
        """Draw rows.

        Parameters
        ----------
        given : (n, d)
            The conditions: tokens, or -1 where a cell is to be drawn. No row is ever drawn again to meet them.
        seed : int
        limits : callable, optional
            Makes the ``Limits`` of a batch that begins at a row.

        Returns
        -------
        (n, d)
        """
        generator = torch.Generator().manual_seed(seed)
        out = np.empty(given.shape, dtype=np.int64)
        with torch.inference_mode():
            for start in range(0, len(given), _ROWS_AT_ONCE):
                rows = slice(start, start + _ROWS_AT_ONCE)
                out[rows] = self._draw(given[rows], generator, limits(start) if limits else None)
        return out

    def _draw(self, given: Ints, generator: torch.Generator, limits: Limits | None) -> Ints:
        device, n = self.device, len(given)
        tokens = given.copy()
        sum_ = torch.zeros(n, self.config.width, device=device)
        fixed = given != FREE
        for place, j in enumerate(self.order):
            if fixed[:, j].any():
                at = torch.as_tensor(fixed[:, j], device=device).unsqueeze(1)
                sum_ += self.network.embed(place, torch.as_tensor(given[:, j].clip(0), device=device)) * at
        for place, j in enumerate(self.order):
            chance = torch.rand(n, 1, generator=generator)
            if fixed[:, j].all():
                if limits is not None:
                    limits.written(j, tokens[:, j])
                continue
            logits = self.network.logits(place, self.network.features(sum_, torch.full((n,), place, device=device))).cpu()
            allowed = limits.allowed(j, tokens) if limits is not None else None
            if allowed is not None:
                logits = logits.masked_fill(torch.as_tensor(~allowed), -torch.inf)
            drawn = np.where(fixed[:, j], given[:, j], choose(logits, chance))
            tokens[:, j] = drawn if limits is None else limits.written(j, drawn)
            new = self.network.embed(place, torch.as_tensor(tokens[:, j], device=device))
            sum_ += new * torch.as_tensor(~fixed[:, j], device=device).unsqueeze(1)
        return tokens

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def state(self, tensors: Arrays) -> dict[str, Any]:
        """Return everything but the weights as JSON; weights and counts go to ``tensors``."""
        for name, value in self.network.state_dict().items():
            tensors[f"policy.{name}"] = value.detach().cpu().numpy()
        for j, rows in enumerate(self.rows):
            tensors[f"policy_rows.{j}"] = rows
        return {"kind": "network", "order": self.order, "sizes": self.sizes, "ordered": self.ordered, "config": asdict(self.config)}

    @classmethod
    def restored(cls, about: dict[str, Any], tensors: Arrays) -> Policy:
        """Rebuild what ``state`` took apart."""
        rows = [tensors[f"policy_rows.{j}"] for j in range(len(about["sizes"]))]
        policy = cls(about["sizes"], about["ordered"], about["order"], rows, NetworkConfig(**about["config"]))
        weights = {name.removeprefix("policy."): torch.as_tensor(value) for name, value in tensors.items() if name.startswith("policy.")}
        policy.network.load_state_dict(weights)
        return policy


def choose(logits: Tensor, chance: Tensor) -> Ints:
    """Draw a token of each row by the inverse of its distribution function: logits (n, size), chance (n, 1) from 0 to 1 -> (n,)."""
    total = torch.softmax(logits.double(), dim=1).cumsum(dim=1)
    drawn = (total < chance * total[:, -1:]).sum(dim=1)
    return np.asarray(drawn.clamp(max=logits.shape[1] - 1).numpy())
