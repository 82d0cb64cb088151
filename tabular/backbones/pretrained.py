"""Backbones: in-context classifiers that predict query rows from labelled context rows. TabPFN, TabICL, and the user's own.

TabPFN (Hollmann et al., Nature 2025) and TabICL (Qu et al., arXiv 2602.11139) read context and query rows in one forward pass; nothing is
fitted. The user provides their weights; ``tabular/backbones/weights.py`` finds and reads the files.

Shapes: k context rows, q query rows, d raw feature columns.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from nearward.tabular.backbones.weights import find_tabicl, find_tabpfn, tabicl_classifier, tabicl_network, tabpfn_network
from nearward.tabular.errors import InputError, did_you_mean
from nearward.tabular.typing import Floats, Ints


class Backbone(Protocol):
    """Protocol of a backbone: a name, and a method that predicts risks from a context.

    Examples
    --------
    >>> class Share:
    ...     name = "share"
    ...
    ...     def risks(self, context, outcome, query):
    ...         return np.full(len(query), outcome.mean())
    >>> find_backbone(Share()).risks(np.zeros((4, 2)), np.array([0, 0, 1, 0]), np.zeros((3, 2)))
    array([0.25, 0.25, 0.25])
    """

    @property
    def name(self) -> str:
        """Name in reports."""

    def risks(self, context: Floats, outcome: Ints, query: Floats) -> Floats:
        """Predict query rows from context rows; the result must not depend on earlier calls.

        Parameters
        ----------
        context : (k, d), raw feature values, NaN where missing; categories by level number from 0
        outcome : (k,), 0 or 1
        query : (q, d), as ``context``

        Returns
        -------
        risk : (q,), probability of outcome 1
        """


@dataclass(frozen=True)
class PretrainedBackbone:
    """Common part of TabPFN and TabICL: a weight file and the settings of inference.

    Parameters
    ----------
    model_path : str or Path, optional
        The weight file; by default searched by ``find_tabpfn`` or ``find_tabicl``.
    categorical : sequence of int
        Columns of level numbers.
    n_estimators : int
        Forward passes that are averaged; with two, each of a package's two preprocessings is used once.
    seed : int
        Of the permutation of columns and classes in each pass.
    device : str
        "cpu" gives the same numbers on every machine; "cuda" is faster.
    """

    name: ClassVar[str] = "pretrained"
    model_path: str | Path | None = None
    categorical: Sequence[int] = ()
    n_estimators: int = 2
    seed: int = 0
    device: str = "cpu"

    def weights(self) -> Path:
        """Return the path of the weight file, without reading it; errors as ``find_tabpfn``."""
        raise NotImplementedError

    def risks(self, context: Floats, outcome: Ints, query: Floats) -> Floats:
        """Predict (q, d) rows from (k, d) rows, see ``Backbone``; without the network where ``trivial_risk`` applies.

        Raises
        ------
        InputError
            Shapes that do not match, or a file of another package.
        MissingWeights
            There is no file.
        """
        _check_rows(context, outcome, query, self.categorical)
        constant = trivial_risk(context, outcome, len(query))
        if constant is not None:
            return constant
        classifier = self._classifier(self.weights())
        with np.errstate(all="ignore"):  # their preprocessing divides by zero for nearly constant columns
            probability = classifier.fit(self._rows(context), outcome).predict_proba(self._rows(query))  # (q, 2)
        return np.clip(np.asarray(probability[:, 1], dtype=np.float64), 0, 1)

    def _classifier(self, path: Path) -> Any:
        raise NotImplementedError

    def _rows(self, rows: Floats) -> Floats:
        return rows


@dataclass(frozen=True)
class TabPFNBackbone(PretrainedBackbone):
    """TabPFN, by default version 2: the weights of every later version exclude commercial use.

    Parameters as ``PretrainedBackbone``; where no column is given as categorical, TabPFN infers them from the context.
    """

    name: ClassVar[str] = "tabpfn"

    def weights(self) -> Path:
        """Return the path of the weight file, without reading it; errors as ``find_tabpfn``."""
        return find_tabpfn(self.model_path)

    def _classifier(self, path: Path) -> Any:
        network = tabpfn_network(path)
        import torch
        from tabpfn import TabPFNClassifier
        from tabpfn.constants import ModelVersion

        return TabPFNClassifier.create_default_for_version(
            ModelVersion.V2,
            model_path=network,
            categorical_features_indices=list(self.categorical) or None,
            n_estimators=self.n_estimators,
            random_state=self.seed,
            device=self.device,
            inference_precision=torch.float32,  # in its default half precision, a row alone and in a batch differ by .001
            ignore_pretraining_limits=True,  # otherwise more than 1000 context rows are refused on a CPU
        )


@dataclass(frozen=True)
class TabICLBackbone(PretrainedBackbone):
    """TabICL, by default version 2. Parameters as ``PretrainedBackbone``; level numbers are read as numbers."""

    name: ClassVar[str] = "tabicl"

    def weights(self) -> Path:
        """Return the path of the weight file, without reading it; errors as ``find_tabicl``."""
        return find_tabicl(self.model_path)

    def _classifier(self, path: Path) -> Any:
        classifier = tabicl_classifier(path, n_estimators=self.n_estimators, random_state=self.seed, device=self.device)
        classifier.model_ = tabicl_network(path)
        classifier._load_model = lambda: None  # otherwise fit would read the file again for every context
        return classifier

    def _rows(self, rows: Floats) -> Floats:
        """Set missing levels to -1, as TabICL's own encoding of categories; otherwise they would be imputed by the column's mean."""
        level = np.isin(np.arange(rows.shape[1]), self.categorical)
        return np.where(level & np.isnan(rows), -1.0, rows)


_BY_NAME: dict[str, type[PretrainedBackbone]] = {"tabpfn": TabPFNBackbone, "tabicl": TabICLBackbone}


def find_backbone(backbone: str | Backbone, categorical: Sequence[int] = ()) -> Backbone:
    """Make a backbone by name, or check that an object is one; weight files are searched now, before anything is fitted.

    Parameters
    ----------
    backbone : "tabpfn", "tabicl", or an object with the protocol ``Backbone``
    categorical : sequence of int
        Columns of level numbers, for a TabPFN or TabICL without any of its own.

    Raises
    ------
    MissingWeights
        The weights are not on this machine.
    InputError
        An unknown name, an object without the protocol, or a package that is not installed.
    """
    if isinstance(backbone, str) and backbone not in _BY_NAME:
        hint = did_you_mean([backbone], ["embedded", *_BY_NAME])
        choices = "'embedded', 'tabpfn', 'tabicl' or an object with a name and a method risks"
        raise InputError(f"backbone must be {choices}, got {backbone!r}. {hint}".strip())
    candidate = _BY_NAME[backbone]() if isinstance(backbone, str) else backbone
    if isinstance(candidate, PretrainedBackbone):
        pretrained = candidate if candidate.categorical else replace(candidate, categorical=tuple(categorical))
        pretrained.weights()
        return pretrained
    _check_protocol(candidate)
    return candidate


def trivial_risk(context: Floats, outcome: Ints, n_queries: int) -> Floats | None:
    """Return a constant risk (q,) for a context (k, d) from which nothing can be learned, else None.

    Nothing can be learned where all context rows have the same outcome, or the same values. The risk is then the share of events,
    smoothed by half a patient of each outcome: ``(events + 1/2) / (k + 1)``.
    """
    if n_queries and len(outcome) and outcome.min() != outcome.max():
        first = context[:1]
        if ((context != first) & ~(np.isnan(context) & np.isnan(first))).any():
            return None
    return np.full(n_queries, (outcome.sum() + 0.5) / (len(outcome) + 1))


def _check_rows(context: Floats, outcome: Ints, query: Floats, categorical: Sequence[int] = ()) -> None:
    if context.ndim != 2 or query.ndim != 2 or outcome.shape != context.shape[:1] or query.shape[1] != context.shape[1]:
        raise InputError(f"context, outcome and query must be (k, d), (k,) and (q, d), got {context.shape}, {outcome.shape}, {query.shape}")
    if not np.isin(outcome, (0, 1)).all():
        raise InputError("outcome must be 0 or 1 in every context row, got other values")
    if np.isinf(context).any() or np.isinf(query).any():
        raise InputError("context and query must be finite, or NaN where a value is missing, got infinities")
    if not all(0 <= column < context.shape[1] for column in categorical):
        raise InputError(f"categorical must be column indices from 0 to {context.shape[1] - 1}, got {list(categorical)}")


def _check_protocol(backbone: object) -> None:
    """Refuse an object without the protocol at once, not after the encoders were trained."""
    requirement = "a backbone is an object with a name and a method risks(context, outcome, query) (docs/guide/bring-your-own-backbone.md)"
    kind = type(backbone).__name__
    if isinstance(backbone, type):
        raise InputError(f"{requirement}, got the class {backbone.__name__}; pass {backbone.__name__}()")
    if not callable(getattr(backbone, "risks", None)):
        hint = ": wrap it, so that risks fits on the context and returns predict_proba(query)[:, 1]"
        raise InputError(f"{requirement}, got {kind}, which has no such method{hint if hasattr(backbone, 'predict_proba') else ''}")
    if not isinstance(getattr(backbone, "name", None), str):
        raise InputError(f"{requirement}, got {kind}, whose name is not text")
    try:
        inspect.signature(backbone.risks).bind(None, None, None)  # type: ignore[attr-defined]
    except TypeError as error:
        raise InputError(f"{requirement}, got {kind}, whose risks takes other arguments ({error})") from None
