"""The in-context network: weights sum to the risk, Bayes' rule by hand, and rows outside the context have no influence."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nearward.tabular.in_context.model import InContextNet, NetConfig, Vote, vote
from nearward.tabular.in_context.row_features import EXPERTS, INPUTS, RowFeatures, fit_row_featurizer

TINY = NetConfig(width=32, heads=2, blocks=2, hidden=48)
B, Q, K = 2, 5, 24


@dataclass(frozen=True)
class Batch:
    """Stored rows, queries, and the mask of each query's context."""

    stored: RowFeatures
    query: RowFeatures
    outcome: Tensor
    sq_distance: Tensor
    mask: Tensor
    floored: Tensor

    def predict(self, net: InContextNet, token: Tensor | None = None) -> Vote:
        with torch.inference_mode():
            token = net.tokens(self.stored, self.outcome) if token is None else token
            out: Vote = net(self.query, token, self.outcome, self.sq_distance, self.mask, self.floored)
        return out


def network(seed: int = 0) -> InContextNet:
    """Every parameter drawn at random, so that nothing is silent."""
    torch.manual_seed(seed)
    net = InContextNet(TINY).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape) / (parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 2))
    return net


def batch(seed: int = 0, b: int = B) -> Batch:
    """A cohort whose columns and three experts know something; about two rows in three are in a query's context, the first two always."""
    rng = torch.Generator().manual_seed(seed)
    signal = torch.randn(b, K + Q, 1, generator=rng)
    value = signal + torch.randn(b, K + Q, 6, generator=rng)
    value[torch.rand(value.shape, generator=rng) < 0.1] = torch.nan
    score = signal + torch.randn(b, K + Q, 3, generator=rng)
    outcome = (signal[:, :K, 0] + torch.randn(b, K, generator=rng) > 0.3).long()
    rows = fit_row_featurizer(value[:, :K], score[:, :K], torch.ones(b, 3, dtype=torch.bool), outcome).transform(value, score)
    mask = (torch.rand(b, Q, K, generator=rng) < 0.66) | (torch.arange(K) < 2)
    floored = mask & (torch.rand(b, Q, K, generator=rng) < 0.2)
    return Batch(rows.take(slice(0, K)), rows.take(slice(K, None)), outcome, 3 * torch.rand(b, Q, K, generator=rng), mask, floored)


def close(a: Vote, b: Vote, atol: float = 1e-5) -> bool:
    return torch.allclose(a.log_odds, b.log_odds, rtol=0, atol=atol) and torch.allclose(a.weight, b.weight, rtol=0, atol=atol)


# ---- the vote ------------------------------------------------------------------------------------


def evenly(k: int) -> torch.Tensor:
    return torch.full((1, 1, k), 1 / k)


def test_vote_by_hand() -> None:
    """Even prior odds; one event explains the query twice as well as the two equal non-events.

    So the odds are 2 to 1: the event has two thirds of the weight, the others a sixth each.
    """
    out = vote(
        torch.zeros(1, 1), torch.tensor([[[math.log(2), 0.0, 0.0]]]), evenly(3), torch.tensor([[[1, 0, 0]]]), torch.ones(1, 1, 3).bool()
    )
    assert out.log_odds.item() == pytest.approx(math.log(2))
    assert out.weight[0, 0].tolist() == pytest.approx([2 / 3, 1 / 6, 1 / 6])


def test_the_experts_log_odds_are_the_prior() -> None:
    """Odds of 1 to 9 from the experts, and rows of both outcomes that explain equally: 1 to 9, whatever the share of events."""
    outcome = torch.tensor([[[1, 1, 1, 1, 0]]])
    out = vote(torch.tensor([[math.log(1 / 9)]]), torch.full((1, 1, 5), 3.3), evenly(5), outcome, torch.ones(1, 1, 5).bool())
    assert out.log_odds.sigmoid().item() == pytest.approx(0.1)
    assert out.weight[0, 0].tolist() == pytest.approx([0.025] * 4 + [0.9])


@settings(deadline=None, max_examples=80, derandomize=True)
@given(seed=st.integers(0, 10_000), k=st.integers(2, 40), size=st.sampled_from([0.1, 1.0, 10.0]), share=st.floats(0.1, 0.9))
def test_the_weights_of_events_add_up_to_the_risk(seed: int, k: int, size: float, share: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    prior, attention = size * torch.randn(2, 3, generator=rng), size * torch.randn(2, 3, k, generator=rng)
    outcome = (torch.rand(2, 3, k, generator=rng) < share).long()
    mask = torch.rand(2, 3, k, generator=rng) < 0.7
    outcome[:, :, 0], outcome[:, :, 1] = 1, 0
    mask[:, :, :2] = True
    attention_share = torch.rand(2, 3, k, generator=rng)
    out = vote(prior, attention, attention_share, outcome, mask)
    assert out.log_odds.isfinite().all()
    assert (out.weight >= 0).all()
    assert not out.weight[~mask].any()
    assert torch.allclose(out.weight.sum(dim=2), torch.ones(2, 3), atol=1e-6)
    assert torch.allclose((out.weight * outcome).sum(dim=2), out.log_odds.sigmoid(), atol=1e-6)
    slow = attention.double().exp()
    of = [(slow * (outcome == y) * mask).sum(dim=2) / ((outcome == y) & mask).sum(dim=2) for y in (1, 0)]
    assert torch.allclose(out.log_odds.double(), prior + of[0].log() - of[1].log(), atol=1e-4)
    weighted = slow * attention_share * mask
    for y in (1, 0):
        kin = outcome == y
        share = (weighted * kin) / (weighted * kin).sum(dim=2, keepdim=True)
        assert torch.allclose((out.weight * kin) / (out.weight * kin).sum(dim=2, keepdim=True), share.float(), atol=1e-4)
    assert torch.equal(vote(prior, attention, evenly(k).expand(2, 3, k), outcome, mask).log_odds, out.log_odds)
    mirrored = vote(-prior, attention, attention_share, 1 - outcome, mask)
    assert torch.allclose(mirrored.log_odds, -out.log_odds, atol=1e-5)
    assert torch.allclose(mirrored.weight, out.weight, atol=1e-6)


@pytest.mark.parametrize("only", [0, 1])
def test_a_context_of_one_outcome_leaves_the_prior(only: int) -> None:
    attention, prior = torch.tensor([[[0.0, math.log(3), 9.0]]]), torch.tensor([[-1.7]])
    outcome = torch.tensor([[[only, only, 1 - only]]])
    out = vote(prior, attention, evenly(3), outcome, torch.tensor([[[True, True, False]]]))
    assert torch.equal(out.log_odds, prior)
    assert out.weight[0, 0].tolist() == pytest.approx([0.25, 0.75, 0])


def test_equal_shifts_of_attention_mean_nothing_and_large_ones_do_no_harm() -> None:
    rng = torch.Generator().manual_seed(0)
    attention, outcome = torch.randn(1, 4, 9, generator=rng), torch.arange(9).remainder(3).eq(0).long().expand(1, 4, 9)
    mask = torch.ones(1, 4, 9).bool()
    attention_share = evenly(9).expand(1, 4, 9)
    before = vote(torch.zeros(1, 4), attention, attention_share, outcome, mask)
    assert close(before, vote(torch.zeros(1, 4), attention + 40, attention_share, outcome, mask))
    extreme = vote(torch.full((1, 4), -80.0), attention * 500, attention_share, outcome, mask)
    assert extreme.log_odds.isfinite().all()
    assert extreme.weight.sum(dim=2) == pytest.approx(1, abs=1e-5)


# ---- the network as it begins --------------------------------------------------------------------


def test_it_begins_as_the_plain_mean_of_the_experts() -> None:
    inputs = batch()
    mean = inputs.query.log_odds[:, :, :3].mean(dim=2)
    out = inputs.predict(InContextNet(TINY).eval())
    assert not torch.allclose(out.log_odds, mean, atol=1e-4)  # penalty says a little,
    assert torch.allclose(out.log_odds, mean, rtol=0, atol=0.06)  # at most .018 times the distance
    alike = replace(inputs, sq_distance=torch.ones(B, Q, K)).predict(InContextNet(TINY).eval())
    assert torch.allclose(alike.log_odds, mean, rtol=0, atol=1e-5)


def test_without_experts_it_begins_at_the_base_rate() -> None:
    inputs = batch()
    base = torch.tensor([-2.0, 0.3])[:, None, None].expand(B, Q, EXPERTS)
    lone = replace(inputs.query, present=torch.zeros(B, EXPERTS, dtype=torch.bool), log_odds=base)
    out = replace(inputs, query=lone, sq_distance=torch.ones(B, Q, K)).predict(InContextNet(TINY).eval())
    assert torch.allclose(out.log_odds, base[:, :, 0], rtol=0, atol=1e-5)


def test_the_shipped_size_is_under_a_million_parameters() -> None:
    assert 500_000 < sum(parameter.numel() for parameter in InContextNet().parameters()) <= 1_000_000


# ---- the network, whatever its parameters --------------------------------------------------------


@settings(deadline=None, max_examples=15, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_the_vote_of_a_network_adds_up(seed: int) -> None:
    inputs = batch(seed)
    out = inputs.predict(network(seed))
    both = torch.stack([(inputs.mask & (inputs.outcome == y)[:, None]).any(dim=2) for y in (0, 1)]).all(dim=0)
    assert both.any()
    assert torch.allclose((out.weight * inputs.outcome[:, None]).sum(dim=2)[both], out.log_odds.sigmoid()[both], rtol=0, atol=1e-6)
    assert torch.allclose(out.weight.sum(dim=2), torch.ones(B, Q), atol=1e-6)
    assert not out.weight[~inputs.mask].any()


def test_a_random_network_uses_every_input() -> None:
    """Else the tests below could not fail."""
    net, inputs = network(), batch()
    before = inputs.predict(net).log_odds
    rng = torch.Generator().manual_seed(0)
    other = {
        "distances": replace(inputs, sq_distance=inputs.sq_distance.flip(2)).predict(net),
        "floor": replace(inputs, floored=inputs.mask & ~inputs.floored).predict(net),
        "members": replace(inputs, mask=inputs.mask | (torch.arange(K) > K // 2)).predict(net),
        "outcomes": inputs.predict(net, net.tokens(inputs.stored, 1 - inputs.outcome).detach()),
        "columns": inputs.predict(net, torch.randn(B, K, TINY.width, generator=rng)),
        "query": replace(inputs, query=replace(inputs.query, inputs=torch.randn(B, Q, INPUTS, generator=rng))).predict(net),
    }
    for name, out in other.items():
        assert (out.log_odds - before).abs().median() > 0.01, name


def test_the_order_of_the_context_means_nothing() -> None:
    net, inputs = network(1), batch(1)
    order = torch.randperm(K, generator=torch.Generator().manual_seed(0))
    shuffled = Batch(
        inputs.stored.take(order),
        inputs.query,
        inputs.outcome[:, order],
        inputs.sq_distance[:, :, order],
        inputs.mask[:, :, order],
        inputs.floored[:, :, order],
    )
    before = inputs.predict(net)
    assert close(Vote(before.log_odds, before.weight[:, :, order]), shuffled.predict(net))


def test_a_query_alone_gets_what_it_gets_in_company() -> None:
    net, inputs = network(2), batch(2)
    together = inputs.predict(net)
    for q in range(Q):
        i = slice(q, q + 1)
        alone = Batch(
            inputs.stored, inputs.query.take(i), inputs.outcome, inputs.sq_distance[:, i], inputs.mask[:, i], inputs.floored[:, i]
        ).predict(net)
        assert close(alone, Vote(together.log_odds[:, i], together.weight[:, i]))


def test_a_shared_context_with_a_mask_is_a_context_of_ones_own() -> None:
    """Queries that share 24 stored rows, each at its own part of them; and the same queries, each with its part alone, padded."""
    net, inputs = network(3), batch(3, b=1)
    shared = inputs.predict(net)
    size = int(inputs.mask.sum(dim=2).max())
    assert size < K
    pick = (~inputs.mask[0]).int().argsort(dim=1, stable=True)[:, :size]  # (q, size), a query's own rows first
    token = net.tokens(inputs.stored, inputs.outcome).detach()[0][pick]  # (q, size, w)
    rows = inputs.query
    own = Batch(
        inputs.stored,
        RowFeatures(rows.features[0, :, None], rows.log_odds[0, :, None], rows.inputs[0, :, None], rows.present.expand(Q, -1)),
        inputs.outcome[0][pick],
        *(near[0].gather(1, pick)[:, None] for near in (inputs.sq_distance, inputs.mask, inputs.floored)),
    ).predict(net, token)
    assert torch.allclose(own.log_odds[:, 0], shared.log_odds[0], rtol=0, atol=1e-5)
    assert torch.allclose(own.weight[:, 0], shared.weight[0].gather(1, pick), rtol=0, atol=1e-5)


def test_rows_outside_have_no_influence() -> None:
    """The last six rows are in no context: their values change nothing, to the last bit."""
    net, inputs = network(4), batch(4)
    last = torch.arange(K) >= K - 6
    inputs = replace(inputs, mask=inputs.mask & ~last)
    token = net.tokens(inputs.stored, inputs.outcome).detach()
    before = inputs.predict(net, token)
    wild = torch.where(last[:, None], 50.0, token)
    after = replace(
        inputs,
        outcome=torch.where(last, 1 - inputs.outcome, inputs.outcome),
        sq_distance=torch.where(last, 0.0, inputs.sq_distance),
        floored=inputs.floored ^ last,
    ).predict(net, wild)
    assert torch.equal(before.log_odds, after.log_odds)
    assert torch.equal(before.weight, after.weight)
    assert not before.weight[:, :, last].any()


def test_tokens_of_stored_rows_do_not_depend_on_one_another() -> None:
    net, inputs = network(5), batch(5)
    token = net.tokens(inputs.stored, inputs.outcome)
    assert token.shape == (B, K, TINY.width)
    for row in (0, 11, K - 1):
        i = slice(row, row + 1)
        assert torch.allclose(net.tokens(inputs.stored.take(i), inputs.outcome[:, i])[:, 0], token[:, row], atol=1e-5)
    after = net.tokens(inputs.stored, torch.where(torch.arange(K) == 0, 1 - inputs.outcome, inputs.outcome))
    assert torch.equal(after[:, 1:], token[:, 1:])
    assert (after[:, 0] - token[:, 0]).abs().max() > 0.1  # a row's own outcome is in its token


def test_absent_experts_have_no_influence() -> None:
    net, inputs = network(6), batch(6)
    loud = inputs.query.log_odds.clone()
    loud[:, :, 3:] = 30
    assert close(inputs.predict(net), replace(inputs, query=replace(inputs.query, log_odds=loud)).predict(net), atol=0)
    loud[:, :, 2] = 30
    assert not close(inputs.predict(net), replace(inputs, query=replace(inputs.query, log_odds=loud)).predict(net), atol=0.1)


@pytest.mark.parametrize("penalty", [-4.0, -1.0, 0.0, 2.0])
def test_the_nearest_rows_of_an_outcome_have_the_most_weight(penalty: float) -> None:
    """With distance alone, a duplicate of the query outweighs the other rows of its outcome, and weight falls with distance."""
    inputs = batch(7)
    twin = torch.arange(Q) % 2  # rows 0 and 1 are in every context
    inputs = replace(inputs, sq_distance=inputs.sq_distance.masked_fill(torch.arange(K) == twin[:, None], 0.0))
    net = InContextNet(TINY).eval()
    with torch.no_grad():
        net.distance_penalty.fill_(penalty)
        for layer in net.cross_attention:
            layer.query_proj.weight.zero_()
            layer.query_proj.bias.zero_()
    out = inputs.predict(net)
    for task in range(B):
        for q in range(Q):
            kin = inputs.mask[task, q] & (inputs.outcome[task] == inputs.outcome[task, twin[q]])
            assert kin.sum() > 3
            assert out.weight[task, q].masked_fill(~kin, -1).argmax() == twin[q]
            weight = out.weight[task, q, kin][inputs.sq_distance[task, q, kin].argsort()]
            assert (weight.diff() < 0).all()


def test_distances_are_clipped_at_eight_times_the_mean() -> None:
    net, inputs = network(8), batch(8)
    at = [replace(inputs, sq_distance=torch.where(torch.arange(K) % 2 == 0, d, 1.0).expand(B, Q, K)).predict(net) for d in (4.0, 8.0, 80.0)]
    assert close(at[1], at[2], atol=0)
    assert not close(at[0], at[1], atol=1e-3)


def test_gradients_are_finite_and_reach_every_parameter_whatever_the_context() -> None:
    """Also where a context has one outcome only, or one row."""
    net, inputs = network(9), batch(9)
    mask = inputs.mask.clone()
    mask[:, 0] = inputs.outcome == 0
    mask[:, 1] = torch.arange(K) == 3
    token = net.tokens(inputs.stored, inputs.outcome)
    out = net(inputs.query, token, inputs.outcome, inputs.sq_distance, mask, inputs.floored)
    torch.nn.functional.softplus(out.log_odds).mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
