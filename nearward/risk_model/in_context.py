"""The embedded in-context model on a cohort: the retriever gives contexts, the base learners' scores are the experts, the network votes.

Shapes: n stored rows, q query rows, d columns, m experts, c context rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.neighbors.binary import Retriever
from nearward.retrieval.neighbors.voting import Context, RetrievalSetting, merge_contexts
from nearward.risk_model.summary import AdapterSummary
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.in_context.checkpoint import float16_state, from_float16_state, load_net
from nearward.tabular.in_context.inference import QueryBatch, predict_risk, scaled_distances
from nearward.tabular.in_context.lora import FEWEST_EVENTS, fit_adapter
from nearward.tabular.in_context.model import InContextNet
from nearward.tabular.in_context.row_features import RowFeaturizer, fit_row_featurizer
from nearward.tabular.parallel import parallel_map
from nearward.tabular.typing import Bools, Floats, Ints, Progress

_NEIGHBOURS = (128, 64, 250)  # context sizes of the ensemble's views, in turn
_BLOCK = 16_384  # rows that become tokens at a time: the network's input is wider than they are
_SHARE = 0.75  # of columns and of experts in every view but the first


@dataclass(frozen=True)
class EnsembleView:
    """What one ensemble member gets: its context, and its columns and experts.

    Parameters
    ----------
    setting : RetrievalSetting
    columns, experts : (…,), indices among d and m
    """

    setting: RetrievalSetting
    columns: Ints
    experts: Ints


class InContextModel:
    """The network with the stored rows' tokens, under one or more views.

    Parameters
    ----------
    net : InContextNet
    views : tuple of EnsembleView
    features : (n, d), columns as numbers, NaN for missing
    scores : (n, m), experts' scores from models that have not seen the row
    outcome : (n,), 0 or 1
    encoded : the rows' tokens, by view; computed by default. A model that has them needs no features and scores, and has none (0, 0).
    """

    def __init__(
        self,
        net: InContextNet,
        views: tuple[EnsembleView, ...],
        features: Floats,
        scores: Floats,
        outcome: Ints,
        encoded: Sequence[_EncodedView] = (),
    ) -> None:
        self.net, self.views, self.outcome = net, views, np.asarray(outcome, dtype=np.int64)
        self.features, self.scores = features, scores
        every_row = np.arange(len(outcome))
        self._encoded = list(encoded) or list(
            parallel_map(lambda view: _EncodedView.fit(net, view, features, scores, self.outcome, every_row), views)
        )

    @property
    def settings(self) -> tuple[RetrievalSetting, ...]:
        """The views' retrieval settings."""
        return tuple(view.setting for view in self.views)

    def predict(self, features: Floats, scores: Floats, contexts: list[Context]) -> tuple[Floats, Context]:
        """Predict the risk of new rows from their contexts.

        Parameters
        ----------
        features : (q, d)
        scores : (q, m)
        contexts : one for each view

        Returns
        -------
        risk : (q,), mean over the views
        context : Context
            The views' contexts as one, weighted by the network; its vote is the risk, except where a context has one outcome only.
        """
        predictions = [predict_risk(self.net, batch) for batch in self.query_batches(features, scores, contexts)]
        weighted = [replace(context, weight=weight) for context, (_, weight) in zip(contexts, predictions, strict=True)]
        return np.mean([risk for risk, _ in predictions], axis=0), weighted[0] if len(weighted) == 1 else merge_contexts(weighted)

    def query_batches(self, features: Floats, scores: Floats, contexts: list[Context]) -> list[QueryBatch]:
        """Return new rows and their contexts as the network's input, by view; arguments as ``predict``."""
        pairs = list(zip(self._encoded, contexts, strict=True))
        return list(parallel_map(lambda pair: pair[0].query_batch(features, scores, pair[1]), pairs))

    def extended(self, features: Floats, scores: Floats, outcome: Ints) -> InContextModel:
        """Return the model with more stored rows: features (m, d), scores (m, experts) by models that have not seen them, outcomes (m,)."""
        joined = np.concatenate([self.features, features]), np.concatenate([self.scores, scores])
        return InContextModel(self.net, self.views, *joined, np.concatenate([self.outcome, outcome]))

    def without(self, removed: Bools) -> InContextModel:
        """Return the model without some stored rows (mask, (n,))."""
        return InContextModel(self.net, self.views, self.features[~removed], self.scores[~removed], self.outcome[~removed])

    def without_rows(self) -> InContextModel:
        """Return the model with the stored rows' tokens alone, without their features and scores; it predicts the same."""
        return InContextModel(self.net, self.views, np.empty((0, 0)), np.empty((0, 0)), self.outcome, self._encoded)

    def refitted(self, rows: StoredRows, retriever: Retriever) -> tuple[InContextModel, Floats]:
        """Return a model with other stored rows, and its risk of each (n,) without the row's patient and fold; network and views stay."""
        batches = _batches_by_fold(self.net, self.views, rows, retriever)
        risk = _out_of_fold_risk([self.net] * len(batches), batches, rows.data.fold)
        return InContextModel(self.net, self.views, rows.features, rows.scores, rows.data.outcome), risk

    def state(self) -> dict[str, Any]:
        """Return the network's weights, the views and the stored rows; tokens are a function of these and are computed on loading."""
        return {
            "network": asdict(self.net.config),
            "weights": float16_state(self.net),
            "views": self.views,
            "features": self.features.astype(np.float32),
            "scores": self.scores.astype(np.float32),
            "outcome": self.outcome,
            "tokens": [one.state() for one in self._encoded] if len(self.features) == 0 else [],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> InContextModel:
        """Load what ``state`` returned."""
        net, views = from_float16_state(state["network"], state["weights"]), tuple(state["views"])
        encoded = [_EncodedView.from_state(view, one, state["outcome"]) for view, one in zip(views, state["tokens"], strict=False)]
        return cls(net, views, state["features"], state["scores"], state["outcome"], encoded)


@dataclass(frozen=True)
class _EncodedView:
    """A view with its fitted featurizer and the stored rows' tokens (n, w) and outcomes (n,)."""

    view: EnsembleView
    featurizer: RowFeaturizer
    token: torch.Tensor
    outcome: torch.Tensor

    @classmethod
    def fit(cls, net: InContextNet, view: EnsembleView, features: Floats, scores: Floats, outcome: Ints, train: Ints) -> _EncodedView:
        """Fit the featurizer on the rows ``train``, and encode all rows with it."""
        x, score, y = _tensor(features[:, view.columns]), _tensor(scores[:, view.experts]), torch.as_tensor(outcome)
        present = torch.ones(1, score.shape[2], dtype=torch.bool)
        with torch.inference_mode():
            featurizer = fit_row_featurizer(x[:, train], score[:, train], present, y[None, train])
            blocks = (slice(begin, begin + _BLOCK) for begin in range(0, len(y), _BLOCK))
            tokens = [net.tokens(featurizer.transform(x[:, rows], score[:, rows]), y[None, rows])[0] for rows in blocks]
        return cls(view, featurizer, torch.cat(tokens), y)

    def state(self) -> dict[str, Any]:
        """Return the tokens and the featurizer as arrays."""
        featurizer = {field.name: getattr(self.featurizer, field.name).numpy() for field in fields(self.featurizer)}
        return {"token": self.token.numpy(), "featurizer": featurizer}

    @classmethod
    def from_state(cls, view: EnsembleView, state: dict[str, Any], outcome: Ints) -> _EncodedView:
        """Load what ``state`` returned."""
        featurizer = RowFeaturizer(**{name: torch.as_tensor(value) for name, value in state["featurizer"].items()})
        return cls(view, featurizer, torch.as_tensor(state["token"]), torch.as_tensor(outcome))

    def query_batch(self, features: Floats, scores: Floats, context: Context) -> QueryBatch:
        """Return query rows and their contexts as the network's input."""
        mask = context.present
        sq_distance = scaled_distances(context.sq_distance, mask, context.floored, context.shard)
        with torch.inference_mode():
            query = self.featurizer.transform(_tensor(features[:, self.view.columns]), _tensor(scores[:, self.view.experts]))
        return QueryBatch(
            query,
            self.token,
            self.outcome,
            torch.as_tensor(np.where(mask, context.row, 0)),
            torch.as_tensor(sq_distance, dtype=torch.float32),
            torch.as_tensor(mask),
            torch.as_tensor(context.floored),
        )


@dataclass(frozen=True)
class StoredRows:
    """The stored rows that an in-context model is fitted on.

    Parameters
    ----------
    features : (n, d), columns as numbers; category rates from folds that have not seen the row
    scores : (n, m), experts' scores from models that have not seen the row
    inputs : EncoderInputs, what the retriever reads
    data : TrainingData
    """

    features: Floats
    scores: Floats
    inputs: EncoderInputs
    data: TrainingData


def fit_in_context_model(
    rows: StoredRows, retriever: Retriever, members: int, adapter: bool, seed: int, progress: Progress
) -> tuple[InContextModel, Floats, AdapterSummary | None]:
    """Prepare the embedded model for a cohort, and predict each stored row without its patient and fold.

    Parameters
    ----------
    rows : StoredRows
    retriever : Retriever
    members : int, views that are averaged
    adapter : bool, whether to try a low-rank adapter
    seed : int
    progress : called with a message after each piece of work

    Returns
    -------
    model : InContextModel
    out_of_fold : (n,), risk
    adapter : AdapterSummary, where one was tried
    """
    net = load_net()
    views = _ensemble_views(members, rows.features.shape[1], rows.scores.shape[1], seed)
    batches = _batches_by_fold(net, views, rows, retriever)
    risk = _out_of_fold_risk([net] * len(batches), batches, rows.data.fold)
    progress("in-context model")
    summary = None
    if adapter:
        net, risk, summary = _try_adapter(net, batches, rows.data, risk, seed)
        progress("adapter")
    return InContextModel(net, views, rows.features, rows.scores, rows.data.outcome), risk, summary


def predict_some(rows: StoredRows, retriever: Retriever, members: int, seed: int, queries: Ints) -> Floats:
    """Return the risk of some of one fold's rows (q,), as ``fit_in_context_model`` predicts them without an adapter."""
    net, views = load_net(), _ensemble_views(members, rows.features.shape[1], rows.scores.shape[1], seed)
    (batches,) = _query_batches(net, views, rows, retriever, [queries])
    return np.asarray(np.mean([predict_risk(net, batch)[0] for batch in batches], axis=0))


def _batches_by_fold(net: InContextNet, views: tuple[EnsembleView, ...], rows: StoredRows, retriever: Retriever) -> list[list[QueryBatch]]:
    """Return the stored rows as queries: a batch for each fold and view."""
    return _query_batches(net, views, rows, retriever, [np.flatnonzero(rows.data.fold == f) for f in range(rows.data.n_folds)])


def _query_batches(
    net: InContextNet, views: tuple[EnsembleView, ...], rows: StoredRows, retriever: Retriever, queries: Sequence[Ints]
) -> list[list[QueryBatch]]:
    """Return a batch for each of some selections of stored rows, and for each view; featurizers have not seen the selection's fold."""
    settings, data = tuple(view.setting for view in views), rows.data

    def batches_of(selected: Ints) -> list[QueryBatch]:
        """Return a selection's batches; contexts of one fold at a time, for they are large."""
        contexts = retriever.out_of_fold_contexts(rows.inputs.take(selected), data.patient_ids, settings, selected)
        return [_fold_batch(net, view, context, rows, selected) for view, context in zip(views, contexts, strict=True)]

    return list(parallel_map(batches_of, queries, "torch", "faiss"))


def _ensemble_views(members: int, columns: int, experts: int, seed: int) -> tuple[EnsembleView, ...]:
    """Return a view of everything, then views of three quarters of the columns and experts with contexts of other sizes."""
    rng = np.random.default_rng(seed)

    def subset(count: int) -> Ints:
        return np.sort(rng.permutation(count)[: max(min(count, 2), round(_SHARE * count))])

    views = [EnsembleView(RetrievalSetting(_NEIGHBOURS[0], True, 1.0), np.arange(columns), np.arange(experts))]
    for j in range(1, members):
        views.append(EnsembleView(RetrievalSetting(_NEIGHBOURS[j % len(_NEIGHBOURS)], True, 1.0), subset(columns), subset(experts)))
    return tuple(views)


def _fold_batch(net: InContextNet, view: EnsembleView, context: Context, rows: StoredRows, queries: Ints) -> QueryBatch:
    """Return some of one fold's rows (q,) with their contexts as queries, with a featurizer fitted on the other folds' rows."""
    train = np.flatnonzero(rows.data.train_rows(int(rows.data.fold[queries[0]])))
    encoded = _EncodedView.fit(net, view, rows.features, rows.scores, rows.data.outcome, train)
    return encoded.query_batch(rows.features[queries], rows.scores[queries], context)


def _out_of_fold_risk(nets: list[InContextNet], batches: list[list[QueryBatch]], fold: Ints) -> Floats:
    """Return each stored row's risk (n,) from its fold's network and batches."""
    risk = np.empty(len(fold))
    for f, (net, views) in enumerate(zip(nets, batches, strict=True)):
        risk[fold == f] = np.mean([predict_risk(net, batch)[0] for batch in views], axis=0)
    return risk


def _try_adapter(
    net: InContextNet, batches: list[list[QueryBatch]], data: TrainingData, risk: Floats, seed: int
) -> tuple[InContextNet, Floats, AdapterSummary]:
    """Fit adapters on the odd and on the even folds for each other, and use an adapter only where the out-of-fold AUPRC rises."""
    events = int(data.outcome.sum())
    if events < FEWEST_EVENTS:
        return net, risk, AdapterSummary(in_use=False, why=f"skipped: {events} events, an adapter needs {FEWEST_EVENTS}")
    first_view = [views[0] for views in batches]
    outcomes = [data.outcome[data.fold == f] for f in range(len(batches))]

    def fit_without(half: int) -> InContextNet:
        return fit_adapter(net, first_view[1 - half :: 2], outcomes[1 - half :: 2], seed + half)

    nets = list(parallel_map(fit_without, range(2)))
    adapted = _out_of_fold_risk([nets[f % 2] for f in range(len(batches))], batches, data.fold)
    without, with_adapter = (data.auprc(one) for one in (risk, adapted))
    if with_adapter <= without:
        return net, risk, AdapterSummary(False, "out of fold it does not rank better", without, with_adapter)
    (adapted_net,) = parallel_map(lambda _: fit_adapter(net, first_view, outcomes, seed), range(1))
    return adapted_net, adapted, AdapterSummary(True, "out of fold it ranks better", without, with_adapter)


def _tensor(x: Floats) -> torch.Tensor:
    return torch.as_tensor(x, dtype=torch.float32)[None]
