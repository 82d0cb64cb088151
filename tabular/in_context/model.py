"""The in-context network: tabular rows become tokens, queries attend to retrieved context rows, and these vote on the risk.

Nothing is fitted on a cohort. A stored row is embedded as a token once; a query passes through blocks of cross-attention and MLP, and every
attention head has a learned penalty on distance. Keys and values come from stored rows alone, and stored rows do not attend to
each other. So tokens are computed once per fit, a query's risk does not depend on the other queries of its batch, and the order of the
context has no influence.

The vote is Bayes' rule. A weighted mean of the experts' log-odds is the prior ``s``; the attention logit ``a`` says how well a context row
explains the query, averaged within the events and within the non-events::

    log-odds of the risk = s + log mean(exp a over events) - log mean(exp a over non-events)

The risk is divided among the context's events, and 1 - risk among its non-events, in proportion to ``exp a`` times the query's mean
attention to the row. So ``risk = Σ weight · outcome`` holds exactly, and the weights explain the prediction.

Shapes: b contexts, q queries of each, k context rows, w width, h heads, e width of a head, s expert slots, i inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nearward.tabular.in_context.row_features import EXPERTS, INPUTS, RowFeatures

_MAX_DISTANCE = 8.0  # in mean squared distances; clipped here


@dataclass(frozen=True)
class NetConfig:
    """Sizes of the network; the shipped one has .7 M parameters.

    Parameters
    ----------
    width : int
        Width of a token.
    heads : int
        Attention heads per block.
    blocks : int
        Blocks of cross-attention and MLP.
    hidden : int
        Hidden units of each MLP block.
    """

    width: int = 128
    heads: int = 4
    blocks: int = 4
    hidden: int = 256


@dataclass(frozen=True)
class Vote:
    """The network's predictions.

    Parameters
    ----------
    log_odds : (b, q)
        Log-odds of the risk; finite also where all rows of a context have the same outcome.
    weight : (b, q, k)
        Non-negative, sums to 1 over the context; ``(weight * outcome).sum(2)`` is the risk.
    """

    log_odds: Tensor
    weight: Tensor


class InContextNet(nn.Module):
    """In-context classifier: see the module's docstring. ``RowFeatures`` come from ``nearward.tabular.in_context.row_features``."""

    def __init__(self, config: NetConfig | None = None) -> None:
        super().__init__()
        self.config = config or NetConfig()
        w = self.config.width
        self.input_proj = nn.Linear(INPUTS, w)
        self.outcome_proj = nn.Linear(EXPERTS + 2, w, bias=False)  # of each expert's residual, and the one-hot outcome
        self.row_mlp_blocks = nn.ModuleList(MLPBlock(w, self.config.hidden) for _ in range(2))
        self.cross_attention = nn.ModuleList(CrossAttention(self.config) for _ in range(self.config.blocks))
        self.mlp_blocks = nn.ModuleList(MLPBlock(w, self.config.hidden) for _ in range(self.config.blocks))
        self.query_norm, self.token_norm = nn.LayerNorm(w), nn.LayerNorm(w)
        self.expert_weighting = nn.Linear(w, EXPERTS + 2)  # softmax logits of the experts, log-scale and shift of their mean
        self.vote_query_proj, self.vote_key_proj = nn.Linear(w, w, bias=False), nn.Linear(w, w, bias=False)
        self.distance_penalty = nn.Parameter(torch.tensor(-4.0))  # before softplus
        for zero in (self.expert_weighting, self.vote_query_proj):  # initially the unweighted mean of the calibrated experts
            nn.init.zeros_(zero.weight)
        nn.init.zeros_(self.expert_weighting.bias)

    def tokens(self, rows: RowFeatures, outcome: Tensor) -> Tensor:
        """Embed k stored rows with their outcomes (b, k) as tokens (b, k, w), once for all queries."""
        y = outcome.to(rows.inputs.dtype)
        residual = (y[:, :, None] - rows.log_odds.sigmoid()) * rows.present[:, None]  # (b, k, s)
        x = self.input_proj(rows.inputs) + self.outcome_proj(torch.cat([residual, y[:, :, None], 1 - y[:, :, None]], dim=2))
        for mlp in self.row_mlp_blocks:
            x = mlp(x)
        token: Tensor = self.token_norm(x)
        return token

    def forward(self, query: RowFeatures, token: Tensor, outcome: Tensor, sq_distance: Tensor, mask: Tensor, floored: Tensor) -> Vote:
        """Predict. Queries share k stored rows, each with a mask of its own; or each has its own context (q = 1).

        Parameters
        ----------
        query : RowFeatures of q rows
        token : (b, k, w), from ``tokens``
        outcome : (b, k), 0 or 1
        sq_distance : (b, q, k), squared distance, scaled to mean 1 over the query's nearest rows
        mask : (b, q, k), bool, stored rows in the query's context
        floored : (b, q, k), bool, rows retrieved by the class floor alone
        """
        x = self.input_proj(query.inputs)  # (b, q, w)
        for mlp in self.row_mlp_blocks:
            x = mlp(x)
        sq_distance, attention = sq_distance.clamp(max=_MAX_DISTANCE), []
        for cross_attention, mlp in zip(self.cross_attention, self.mlp_blocks, strict=True):
            x, head_mean = cross_attention(x, token, sq_distance, mask, floored)
            x = mlp(x)
            attention.append(head_mean)
        x = self.query_norm(x)
        prior = self._weighted_experts(x, query)
        vote_logits = (self.vote_query_proj(x) @ self.vote_key_proj.weight @ token.transpose(1, 2)).float() / x.shape[2] ** 0.5  # (b, q, k)
        vote_logits = vote_logits - F.softplus(self.distance_penalty) * sq_distance
        return vote(prior, vote_logits, torch.stack(attention).mean(dim=0).float(), outcome[:, None].expand_as(mask), mask)

    def _weighted_experts(self, x: Tensor, query: RowFeatures) -> Tensor:
        """Return the experts' mean log-odds (b, q), weighted, scaled and shifted for each query."""
        weighting = self.expert_weighting(x).float()  # (b, q, s + 2)
        present = query.present[:, None]
        logits = weighting[:, :, :EXPERTS].masked_fill(~present, -torch.inf).masked_fill(~present.any(dim=2, keepdim=True), 0.0)
        mean: Tensor = (logits.softmax(dim=2) * query.log_odds).sum(dim=2)  # an empty slot holds the base rate
        log_odds: Tensor = mean * weighting[:, :, EXPERTS].clamp(-3, 3).exp() + weighting[:, :, EXPERTS + 1]
        return log_odds


class CrossAttention(nn.Module):
    """Queries attend to context tokens: pre-norm, residual, zero at initialisation; each head has its own penalty on distance.

    Keys and values are linear in the tokens, so their projections are applied to the query's side (``projected_query @ token``):
    stored rows need no keys and values of their own.
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        w, self.heads = config.width, config.heads
        self.norm, self.query_proj, self.out_proj = nn.LayerNorm(w), nn.Linear(w, w), nn.Linear(w, w, bias=False)
        self.key_proj, self.value_proj = nn.Linear(w, w, bias=False), nn.Linear(w, w, bias=False)
        self.distance_penalty = nn.Parameter(torch.linspace(-2.0, 2.0, config.heads))  # before softplus
        self.floor_bonus = nn.Parameter(torch.zeros(config.heads))
        nn.init.zeros_(self.out_proj.weight)

    def forward(self, x: Tensor, token: Tensor, sq_distance: Tensor, mask: Tensor, floored: Tensor) -> tuple[Tensor, Tensor]:
        """Return the updated queries (b, q, w) and the attention averaged over heads (b, q, k)."""
        b, q, w = x.shape
        k, h, e = token.shape[1], self.heads, w // self.heads
        query = self.query_proj(self.norm(x)).view(b, q, h, e)
        projected_query = torch.einsum("bqhe,hew->bqhw", query, self.key_proj.weight.view(h, e, w))
        logits = (projected_query.reshape(b, q * h, w) @ token.transpose(1, 2)).view(b, q, h, k) / e**0.5
        penalty = F.softplus(self.distance_penalty)[:, None] * sq_distance[:, :, None] - self.floor_bonus[:, None] * floored[:, :, None]
        attention = (logits - penalty).masked_fill(~mask[:, :, None], -torch.inf).softmax(dim=3)  # (b, q, h, k)
        mean_token = (attention.to(token.dtype).view(b, q * h, k) @ token).view(b, q, h, w)
        attended = torch.einsum("bqhw,hew->bqhe", mean_token, self.value_proj.weight.view(h, e, w)).reshape(b, q, w)
        return x + self.out_proj(attended), attention.mean(dim=2)


class MLPBlock(nn.Module):
    """Pre-norm residual MLP, zero at initialisation."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm, self.up_proj, self.down_proj = nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)
        nn.init.zeros_(self.down_proj.weight)
        nn.init.zeros_(self.down_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (b, n, w) plus the MLP of it."""
        out: Tensor = x + self.down_proj(F.gelu(self.up_proj(self.norm(x))))
        return out


def vote(prior: Tensor, vote_logits: Tensor, attention: Tensor, outcome: Tensor, mask: Tensor) -> Vote:
    """Combine the experts' log-odds with the votes of the context rows, by Bayes' rule.

    Parameters
    ----------
    prior : (b, q), log-odds by the experts alone
    vote_logits : (b, q, k)
    attention : (b, q, k), the query's mean attention to each row
    outcome : (b, q, k), 0 or 1
    mask : (b, q, k), bool

    Returns
    -------
    Vote
        Where a context has one outcome only, that outcome has all the weight, and ``log_odds`` are ``prior``.
    """
    event = outcome.bool() & mask
    other = ~outcome.bool() & mask
    vote_logits = vote_logits.masked_fill(~mask, -torch.inf)
    log_weight = vote_logits + attention.clamp(min=1e-9).log()
    log_share = log_weight - torch.where(event, _log_sum(log_weight, event), _log_sum(log_weight, other))  # sums to 1 within each outcome
    both = event.any(dim=2) & other.any(dim=2)  # (b, q)
    log_likelihood_ratio = (_log_mean(vote_logits, event) - _log_mean(vote_logits, other)).squeeze(2)
    log_odds = prior + torch.where(both, log_likelihood_ratio, 0.0)
    log_risk = torch.where(event, F.logsigmoid(log_odds)[:, :, None], F.logsigmoid(-log_odds)[:, :, None])
    weight = (log_share + torch.where(both[:, :, None], log_risk, 0.0)).exp()
    return Vote(log_odds, weight.masked_fill(~mask, 0.0))


def _log_sum(x: Tensor, selected: Tensor) -> Tensor:
    """Log-sum-exp over the selected rows (b, q, k) -> (b, q, 1); 0 where none is selected."""
    none = ~selected.any(dim=2, keepdim=True)
    return x.masked_fill(~selected, -torch.inf).masked_fill(none, 0.0).logsumexp(dim=2, keepdim=True).masked_fill(none, 0.0)


def _log_mean(x: Tensor, selected: Tensor) -> Tensor:
    return _log_sum(x, selected) - selected.sum(dim=2, keepdim=True).clamp(min=1).to(x.dtype).log()
