"""The embedded in-context model at work on a cohort: AWARE finds the context, the panel fills the expert slots, the network weighs.

Letters: n stored rows, q query rows, d columns, m experts, c context rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from nearward.retrieval.neighbors.binary import Retriever
from nearward.retrieval.neighbors.voting import Context, Rule, merge
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.in_context.checkpoint import float16_state, from_float16_state, load_net
from nearward.tabular.in_context.inference import QueryBatch, predict_risk, scaled_distances
from nearward.tabular.in_context.lora import FEWEST_EVENTS, fit_adapter
from nearward.tabular.in_context.model import InContextNet
from nearward.tabular.in_context.row_features import RowFeaturizer, fit_row_featurizer
from nearward.tabular.parallel import parallel_map
from nearward.tabular.typing import Floats, Ints

_NEIGHBOURS = (128, 64, 250)  # context sizes of the first, second, third member, and so on round
_SHARE = 0.75  # of columns and of experts that a further member reads


@dataclass(frozen=True)
class EnsembleView:
    """How one member asks: its context rule, and the columns and experts that it reads.

    Parameters
    ----------
    rule : Rule
    columns, experts : (…,), places among d and m
    """

    rule: Rule
    columns: Ints
    experts: Ints


class InContextModel:
    """Stored rows, read and ready to vote.

    Parameters
    ----------
    net : InContextNet
    ways : tuple of Way, the members
    value : (n, d), columns as numbers, NaN for missing
    score : (n, m), experts' scores of rows that they had not seen
    outcome : (n,), 0 or 1
    """

    def __init__(self, net: InContextNet, ways: tuple[EnsembleView, ...], value: Floats, score: Floats, outcome: Ints) -> None:
        self.net, self.ways, self.outcome = net, ways, np.asarray(outcome, dtype=np.int64)
        self.value, self.score = value, score
        everybody = np.arange(len(outcome))
        self._readers = list(parallel_map(lambda way: _Reader.fit(net, way, self.value, self.score, self.outcome, everybody), ways))

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The members' context rules."""
        return tuple(way.rule for way in self.ways)

    def ask(self, value: Floats, score: Floats, contexts: list[Context]) -> tuple[Floats, Context]:
        """Let the contexts of new rows vote.

        Parameters
        ----------
        value : (q, d)
        score : (q, m)
        contexts : one for each member

        Returns
        -------
        risk : (q,), mean of the members
        voted : Context
            The members' contexts as one, weighed by the network; its vote is the risk, except where a context has one outcome only.
        """
        asked = parallel_map(lambda j: self._readers[j].questions(value, score, contexts[j]), range(len(self.ways)))
        told = [predict_risk(self.net, q) for q in list(asked)]
        voted = [replace(context, weight=weight) for context, (_, weight) in zip(contexts, told, strict=True)]
        return np.mean([risk for risk, _ in told], axis=0), voted[0] if len(voted) == 1 else merge(voted)

    def state(self) -> dict[str, Any]:
        """Return what it is made of, for the artifact; tokens are a function of these and are made anew."""
        return {
            "network": asdict(self.net.config),
            "weights": float16_state(self.net),
            "ways": self.ways,
            "value": self.value.astype(np.float32),
            "score": self.score.astype(np.float32),
            "outcome": self.outcome,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> InContextModel:
        """Rebuild what ``state`` took apart."""
        net = from_float16_state(state["network"], state["weights"])
        return cls(net, tuple(state["ways"]), state["value"], state["score"], state["outcome"])


@dataclass(frozen=True)
class _Reader:
    """One member's slots, and the stored rows' tokens under them."""

    way: EnsembleView
    slots: RowFeaturizer
    token: torch.Tensor
    known: torch.Tensor

    @classmethod
    def fit(cls, net: InContextNet, way: EnsembleView, value: Floats, score: Floats, outcome: Ints, seen: Ints) -> _Reader:
        """Fit the slots on the rows ``seen``, and read all rows with them."""
        x, told, known = _tensor(value[:, way.columns]), _tensor(score[:, way.experts]), torch.as_tensor(outcome)
        there = torch.ones(1, told.shape[2], dtype=torch.bool)
        with torch.inference_mode():
            slots = fit_row_featurizer(x[:, seen], told[:, seen], there, known[None, seen])
            token = net.tokens(slots.transform(x, told), known[None])[0]
        return cls(way, slots, token, known)

    def questions(self, value: Floats, score: Floats, context: Context) -> QueryBatch:
        """Read rows and their contexts."""
        inside = context.row >= 0
        apart = scaled_distances(context.squared, inside, context.floored, context.shard)
        with torch.inference_mode():
            query = self.slots.transform(_tensor(value[:, self.way.columns]), _tensor(score[:, self.way.experts]))
        return QueryBatch(
            query,
            self.token,
            self.known,
            torch.as_tensor(np.where(inside, context.row, 0)),
            torch.as_tensor(apart, dtype=torch.float32),
            torch.as_tensor(inside),
            torch.as_tensor(context.floored),
        )


@dataclass(frozen=True)
class StoredRows:
    """What is known of the stored rows when an in-context model is fitted.

    Parameters
    ----------
    value : (n, d), columns as numbers; rates of category levels by folds that had not seen the row
    score : (n, m), experts' scores by models that had not seen the row
    dense : (n, p), the encoding that the retriever reads
    data : TrainingData
    """

    value: Floats
    score: Floats
    dense: Floats
    data: TrainingData


def fit_in_context_model(
    rows: StoredRows, retriever: Retriever, members: int, adapter: bool, seed: int, progress: Callable[[str], None]
) -> tuple[InContextModel, Floats, dict[str, Any]]:
    """Make the embedded model ready for a cohort, and let it judge each stored row without that row's patient and fold.

    Parameters
    ----------
    rows : StoredRows
    retriever : Retriever
    members : int, ways of asking that are averaged
    adapter : bool, whether to try a low-rank adapter
    seed : int
    progress : called with a few words after each piece of work

    Returns
    -------
    embedded : Embedded
    out_of_fold : (n,), risk
    told : what became of the adapter
    """
    net = load_net()
    ways = _ways(members, rows.value.shape[1], rows.score.shape[1], seed)
    contexts = retriever.out_of_fold(rows.dense, rows.data.patient_ids, tuple(way.rule for way in ways))

    def ask_fold(f: int) -> list[QueryBatch]:
        return [_left_out_questions(net, way, context, rows, rows.data.fold == f) for way, context in zip(ways, contexts, strict=True)]

    asked = list(parallel_map(ask_fold, range(rows.data.n_folds)))  # by fold, then by member
    risk = _left_out_risk([net] * len(asked), asked, rows.data.fold)
    progress("in-context model")
    told: dict[str, Any] = {"name": "embedded", "members": members}
    if adapter:
        net, risk, told["adapter"] = _try_adapter(net, asked, rows, risk, seed)
        progress("adapter")
    return InContextModel(net, ways, rows.value, rows.score, rows.data.outcome), risk, told


def _ways(members: int, columns: int, experts: int, seed: int) -> tuple[EnsembleView, ...]:
    """The first member reads everything; a further one three quarters of the columns and experts, in a context of another size."""
    draw = np.random.default_rng(seed)

    def some(count: int) -> Ints:
        return np.sort(draw.permutation(count)[: max(min(count, 2), round(_SHARE * count))])

    first = EnsembleView(Rule(_NEIGHBOURS[0], True, 1.0), np.arange(columns), np.arange(experts))
    rest = (EnsembleView(Rule(_NEIGHBOURS[j % len(_NEIGHBOURS)], True, 1.0), some(columns), some(experts)) for j in range(1, members))
    return (first, *rest)


def _left_out_questions(net: InContextNet, way: EnsembleView, context: Context, rows: StoredRows, inside: NDArray[np.bool_]) -> QueryBatch:
    """Ask about the rows of one fold, read by slots that were fitted on the others; their contexts lie within the fold."""
    reader = _Reader.fit(net, way, rows.value, rows.score, rows.data.outcome, np.flatnonzero(~inside))
    asked = np.flatnonzero(inside)
    return reader.questions(rows.value[asked], rows.score[asked], context.take(asked))


def _left_out_risk(nets: list[InContextNet], asked: list[list[QueryBatch]], fold: Ints) -> Floats:
    """Return each stored row's risk (n,), its fold's questions put to its fold's network."""
    risk = np.empty(len(fold))
    for f, (net, questions) in enumerate(zip(nets, asked, strict=True)):
        risk[fold == f] = np.mean([predict_risk(net, q)[0] for q in questions], axis=0)
    return risk


def _try_adapter(
    net: InContextNet, asked: list[list[QueryBatch]], rows: StoredRows, risk: Floats, seed: int
) -> tuple[InContextNet, Floats, dict[str, Any]]:
    """Adapt on every other fold for those between, and keep the adapter only where the out-of-fold AUPRC rises."""
    events = int(rows.data.outcome.sum())
    if events < FEWEST_EVENTS:
        return net, risk, {"kept": False, "why": f"skipped: {events} events, an adapter needs {FEWEST_EVENTS}"}
    first = [questions[0] for questions in asked]
    known = [rows.data.outcome[rows.data.fold == f] for f in range(len(asked))]

    def fit_without(half: int) -> InContextNet:
        return fit_adapter(net, first[1 - half :: 2], known[1 - half :: 2], seed + half)

    nets = list(parallel_map(fit_without, range(2)))
    adapted = _left_out_risk([nets[f % 2] for f in range(len(asked))], asked, rows.data.fold)
    before, after = (float(average_precision_score(rows.data.outcome, r)) for r in (risk, adapted))
    told = {"kept": after > before, "auprc_without": before, "auprc_with": after}
    if after <= before:
        return net, risk, {**told, "why": "out of fold it does not rank better"}
    (whole,) = parallel_map(lambda _: fit_adapter(net, first, known, seed), range(1))
    return whole, adapted, {**told, "why": "out of fold it ranks better"}


def _tensor(x: Floats) -> torch.Tensor:
    return torch.as_tensor(x, dtype=torch.float32)[None]
