"""The embedded in-context network: it reads a patient and the similar patients, and lets these vote.

Nothing is fitted on a cohort here. A stored row becomes a token once (what its slots say, and its outcome); a query walks through the
blocks and in each one looks at the tokens of its context, the nearer ones more, as each head has learned to. Keys come from stored rows
alone, and stored rows do not depend on who asks, so their keys are made once a fit, a query gets the same risk alone or in company,
and the order of the context means nothing.

The vote is Bayes' rule. The experts, weighed for this query, give log-odds ``s``; attention ``a`` says how well each context row
explains the query, on average within the events and within the others::

    log-odds of the risk = s + log mean(exp a over events) - log mean(exp a over the others)

The risk is shared out over the events of the context, and what it lacks to 1 over the others, each by ``exp a`` times how much the query
looked at the row. So ``risk = Σ weight · outcome``, exactly, and the weights say whom the network heeded.

Letters: b contexts, q queries of each, k its rows, w width, h heads, s expert slots, i inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nearward.tabular.in_context.row_features import EXPERTS, INPUTS, Rows

_FURTHEST = 8.0  # mean squared distances: beyond, further is not further


@dataclass(frozen=True)
class NetConfig:
    """Sizes of the network; the shipped one has .7 M parameters.

    Parameters
    ----------
    width : int
        Of a token.
    heads : int
        Ways of looking, in every block.
    blocks : int
        Looks at the context.
    hidden : int
        Units of each block's inner layer.
    """

    width: int = 128
    heads: int = 4
    blocks: int = 4
    hidden: int = 256


@dataclass(frozen=True)
class Vote:
    """What the network says of its queries.

    Parameters
    ----------
    log_odds : (b, q)
        Of the risk; finite also where all of a context had the same outcome.
    weight : (b, q, k)
        Not negative, sums to 1 over the context; ``(weight * outcome).sum(2)`` is the risk.
    """

    log_odds: Tensor
    weight: Tensor


class _Inner(nn.Module):
    """Pre-norm residual layer, silent at first."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.down(F.gelu(self.up(self.norm(x))))
        return out


class _Look(nn.Module):
    """A query looks at its context; silent at first, and heads begin far- and near-sighted.

    Keys and values are linear in the tokens, so the query carries its question to the tokens instead (``ask @ keys``): nothing but the
    tokens need be kept of a stored row.
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        w, self.heads = config.width, config.heads
        self.norm, self.asks, self.tells = nn.LayerNorm(w), nn.Linear(w, w), nn.Linear(w, w, bias=False)
        self.keys, self.values = nn.Linear(w, w, bias=False), nn.Linear(w, w, bias=False)
        self.nearness = nn.Parameter(torch.linspace(-2.0, 2.0, config.heads))
        self.floor = nn.Parameter(torch.zeros(config.heads))
        nn.init.zeros_(self.tells.weight)

    def forward(self, x: Tensor, token: Tensor, apart: Tensor, floored: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Return the queries (b, q, w) after the look, and where the heads looked on average (b, q, k)."""
        b, q, w = x.shape
        k, h, e = token.shape[1], self.heads, w // self.heads
        ask = torch.einsum("bqhe,hew->bqhw", self.asks(self.norm(x)).view(b, q, h, e), self.keys.weight.view(h, e, w))
        score = (ask.reshape(b, q * h, w) @ token.transpose(1, 2)).view(b, q, h, k) / e**0.5
        near = F.softplus(self.nearness)[:, None] * apart[:, :, None] - self.floor[:, None] * floored[:, :, None]
        attention = (score - near).masked_fill(~inside[:, :, None], -torch.inf).softmax(dim=3)  # (b, q, h, k)
        seen = (attention.to(token.dtype).view(b, q * h, k) @ token).view(b, q, h, w)
        heard = torch.einsum("bqhw,hew->bqhe", seen, self.values.weight.view(h, e, w)).reshape(b, q, w)
        return x + self.tells(heard), attention.mean(dim=2)


class InContextNet(nn.Module):
    """The network. See the module's docstring; ``Rows`` come from ``nearward.tabular.in_context.row_features``."""

    def __init__(self, config: NetConfig | None = None) -> None:
        super().__init__()
        self.config = config or NetConfig()
        w = self.config.width
        self.read = nn.Linear(INPUTS, w)
        self.outcome = nn.Linear(EXPERTS + 2, w, bias=False)  # a stored row's outcome, and by how much each expert missed it
        self.rows = nn.ModuleList(_Inner(w, self.config.hidden) for _ in range(2))
        self.looks = nn.ModuleList(_Look(self.config) for _ in range(self.config.blocks))
        self.thoughts = nn.ModuleList(_Inner(w, self.config.hidden) for _ in range(self.config.blocks))
        self.norm, self.stored_norm = nn.LayerNorm(w), nn.LayerNorm(w)
        self.trust = nn.Linear(w, EXPERTS + 2)  # which experts, how much, and a correction
        self.asks, self.ballot = nn.Linear(w, w, bias=False), nn.Linear(w, w, bias=False)
        self.nearness = nn.Parameter(torch.tensor(-4.0))
        for silent in (self.trust, self.asks):  # starts as the plain mean of the calibrated experts
            nn.init.zeros_(silent.weight)
        nn.init.zeros_(self.trust.bias)

    def tokens(self, rows: Rows, outcome: Tensor) -> Tensor:
        """Make tokens of stored rows, once for all who will ask.

        Parameters
        ----------
        rows : Rows of k
        outcome : (b, k), 0 or 1

        Returns
        -------
        token : (b, k, w)
        """
        y = outcome.to(rows.inputs.dtype)
        missed = (y[:, :, None] - rows.log_odds.sigmoid()) * rows.present[:, None]
        x = self.read(rows.inputs) + self.outcome(torch.cat([missed, y[:, :, None], 1 - y[:, :, None]], dim=2))
        for inner in self.rows:
            x = inner(x)
        out: Tensor = self.stored_norm(x)
        return out

    def forward(self, query: Rows, token: Tensor, outcome: Tensor, apart: Tensor, inside: Tensor, floored: Tensor) -> Vote:
        """Ask. Contexts are shared (several queries look at the same k rows, each at its own part of them) or a query's own (q = 1).

        Parameters
        ----------
        query : Rows of q
        token : (b, k, w), from ``tokens``
        outcome : (b, k), 0 or 1
        apart : (b, q, k), squared distance, 1 at the mean of the query's nearest rows
        inside : (b, q, k), bool, which stored rows are in the query's context
        floored : (b, q, k), bool, which are there because of the class floor alone
        """
        x = self.read(query.inputs)
        for inner in self.rows:
            x = inner(x)
        apart, looked = apart.clamp(max=_FURTHEST), []
        for look, inner in zip(self.looks, self.thoughts, strict=True):
            x, seen = look(x, token, apart, floored, inside)
            x = inner(x)
            looked.append(seen)
        x = self.norm(x)
        told = self._experts(x, query)
        attention = (self.asks(x) @ self.ballot.weight @ token.transpose(1, 2)).float() / x.shape[2] ** 0.5  # (b, q, k)
        attention = attention - F.softplus(self.nearness) * apart
        return vote(told, attention, torch.stack(looked).mean(dim=0).float(), outcome[:, None].expand_as(inside), inside)

    def _experts(self, x: Tensor, query: Rows) -> Tensor:
        """Weigh the experts for each query: (b, q), log-odds."""
        trust = self.trust(x).float()
        there = query.present[:, None]
        share = trust[:, :, :EXPERTS].masked_fill(~there, -torch.inf).masked_fill(~there.any(dim=2, keepdim=True), 0.0).softmax(dim=2)
        mean: Tensor = (share * query.log_odds).sum(dim=2)  # an empty slot says the base rate
        out: Tensor = mean * trust[:, :, EXPERTS].clamp(-3, 3).exp() + trust[:, :, EXPERTS + 1]
        return out


def vote(told: Tensor, attention: Tensor, looked: Tensor, outcome: Tensor, inside: Tensor) -> Vote:
    """Let the context vote, by Bayes' rule.

    Parameters
    ----------
    told : (b, q), log-odds before the context is heard
    attention : (b, q, k)
    looked : (b, q, k), share of the query's looks that each row had
    outcome : (b, q, k), 0 or 1
    inside : (b, q, k), bool

    Returns
    -------
    Vote
        Where a context has one outcome only, all its weight lies there, and ``log_odds`` are ``told``.
    """
    event = outcome.bool() & inside
    other = ~outcome.bool() & inside
    out = attention.masked_fill(~inside, -torch.inf)
    heeded = out + looked.clamp(min=1e-9).log()
    level = heeded - torch.where(event, _log_sum(heeded, event), _log_sum(heeded, other))  # log-weight within its outcome, sums to 1
    both = event.any(dim=2) & other.any(dim=2)  # (b, q)
    evidence = (_log_mean(out, event) - _log_mean(out, other)).squeeze(2)
    log_odds = told + torch.where(both, evidence, 0.0)
    share = torch.where(event, F.logsigmoid(log_odds)[:, :, None], F.logsigmoid(-log_odds)[:, :, None])
    weight = (level + torch.where(both[:, :, None], share, 0.0)).exp()
    return Vote(log_odds, weight.masked_fill(~inside, 0.0))


def _log_sum(x: Tensor, chosen: Tensor) -> Tensor:
    """Log of the summed exponentials of the chosen (b, q, k) -> (b, q, 1); 0 where none is."""
    none = ~chosen.any(dim=2, keepdim=True)
    return x.masked_fill(~chosen, -torch.inf).masked_fill(none, 0.0).logsumexp(dim=2, keepdim=True).masked_fill(none, 0.0)


def _log_mean(x: Tensor, chosen: Tensor) -> Tensor:
    return _log_sum(x, chosen) - chosen.sum(dim=2, keepdim=True).clamp(min=1).to(x.dtype).log()
