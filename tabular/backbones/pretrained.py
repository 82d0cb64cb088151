"""Networks that read similar patients and answer with a risk: TabPFN, TabICL, and whatever has the same one method.

TabPFN (Hollmann et al., Nature 2025) and TabICL (Qu et al., arXiv 2602.11139) take a context of rows whose outcome is known, and
rows to judge, in one forward pass; nothing is fitted. The user brings their weights; ``checkpoints`` finds and reads them.

Letters: k context rows, q query rows, d raw feature columns.
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
    """What a network must offer: a name, and risks from a context.

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
        """What reports call it."""

    def risks(self, context: Floats, outcome: Ints, query: Floats) -> Floats:
        """Judge the query rows by the context rows; no answer may depend on an earlier call.

        Parameters
        ----------
        context : (k, d), raw feature values, NaN where missing; of a category the level number, from 0
        outcome : (k,), 0 or 1
        query : (q, d), as ``context``

        Returns
        -------
        risk : (q,), probability of outcome 1
        """


@dataclass(frozen=True)
class Pretrained:
    """What TabPFN and TabICL have in common: weights in a file, and how often and where they are asked.

    Parameters
    ----------
    model_path : str or Path, optional
        The weights; by default looked for as ``checkpoints`` says.
    categorical : sequence of int
        Columns that hold level numbers.
    n_estimators : int
        Forward passes whose answers are averaged; two see each of a package's two preprocessings once.
    seed : int
        Of the order of columns and classes in each pass.
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
        """Find the file, unread; raises as ``find_tabpfn``."""
        raise NotImplementedError

    def risks(self, context: Floats, outcome: Ints, query: Floats) -> Floats:
        """Judge (q, d) rows by (k, d) rows, as ``Backbone`` describes; the network is not asked where ``answer_without`` knows.

        Raises
        ------
        InputError
            Where the rows do not belong together, or the file is not this package's.
        MissingWeights
            Where there is no file.
        """
        _check_rows(context, outcome, query, self.categorical)
        known = answer_without(context, outcome, len(query))
        if known is not None:
            return known
        classifier = self._classifier(self.weights())
        with np.errstate(all="ignore"):  # their preprocessing of a column that hardly varies divides by zero
            probability = classifier.fit(self._rows(context), outcome).predict_proba(self._rows(query))  # (q, 2)
        return np.clip(np.asarray(probability[:, 1], dtype=np.float64), 0, 1)

    def _classifier(self, path: Path) -> Any:
        raise NotImplementedError

    def _rows(self, rows: Floats) -> Floats:
        return rows


@dataclass(frozen=True)
class TabPFNBackbone(Pretrained):
    """TabPFN, by default version 2: the weights of every later version exclude commercial use.

    Parameters are ``Pretrained``'s; where no column is named categorical, TabPFN guesses from the context.
    """

    name: ClassVar[str] = "tabpfn"

    def weights(self) -> Path:
        """Find the file, unread; raises as ``find_tabpfn``."""
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
            inference_precision=torch.float32,  # by default half of it, and then a row alone and in a batch differ by .001
            ignore_pretraining_limits=True,  # or more than 1000 context rows were refused on a CPU
        )


@dataclass(frozen=True)
class TabICLBackbone(Pretrained):
    """TabICL, by default version 2. Parameters are ``Pretrained``'s; level numbers are read as numbers."""

    name: ClassVar[str] = "tabicl"

    def weights(self) -> Path:
        """Find the file, unread; raises as ``find_tabicl``."""
        return find_tabicl(self.model_path)

    def _classifier(self, path: Path) -> Any:
        classifier = tabicl_classifier(path, n_estimators=self.n_estimators, random_state=self.seed, device=self.device)
        classifier.model_ = tabicl_network(path)
        classifier._load_model = lambda: None  # or fit would read the file again for every context
        return classifier

    def _rows(self, rows: Floats) -> Floats:
        """Make missing levels -1, as TabICL's own encoding of categories does; as numbers they would become the column's mean."""
        level = np.isin(np.arange(rows.shape[1]), self.categorical)
        return np.where(level & np.isnan(rows), -1.0, rows)


_MADE: dict[str, type[Pretrained]] = {"tabpfn": TabPFNBackbone, "tabicl": TabICLBackbone}


def find_backbone(backbone: str | Backbone, categorical: Sequence[int] = ()) -> Backbone:
    """Make the backbone of a name, or check that an object can be one; its weights are looked for now, before anything is fitted.

    Parameters
    ----------
    backbone : "tabpfn", "tabicl", or an object as ``Backbone`` describes
    categorical : sequence of int
        Columns that hold level numbers, for a TabPFN or TabICL that names none itself.

    Raises
    ------
    MissingWeights
        Where they are not on this machine.
    InputError
        For an unknown name, an object of another kind, or a package that is not installed.
    """
    if isinstance(backbone, str) and backbone not in _MADE:
        hint = did_you_mean([backbone], ["embedded", *_MADE])
        raise InputError(f"backbone={backbone!r} is none of 'embedded', 'tabpfn' and 'tabicl', nor an object. {hint}".strip())
    made = _MADE[backbone]() if isinstance(backbone, str) else backbone
    if isinstance(made, Pretrained):
        told = made if made.categorical else replace(made, categorical=tuple(categorical))
        told.weights()
        made = told
    _check_protocol(made)
    return made


def answer_without(context: Floats, outcome: Ints, queries: int) -> Floats | None:
    """Return the risk (q,) where a context (k, d) gives it without a network, or None where one should be asked.

    Where all context rows have the same outcome, or no column tells two of them apart, the columns teach nothing: the risk is the
    share of events, smoothed by half a patient of each outcome, ``(events + 1/2) / (k + 1)``.
    """
    if queries and len(outcome) and outcome.min() != outcome.max():
        first = context[:1]
        if ((context != first) & ~(np.isnan(context) & np.isnan(first))).any():
            return None
    return np.full(queries, (outcome.sum() + 0.5) / (len(outcome) + 1))


def _check_rows(context: Floats, outcome: Ints, query: Floats, categorical: Sequence[int] = ()) -> None:
    if context.ndim != 2 or query.ndim != 2 or outcome.shape != context.shape[:1] or query.shape[1] != context.shape[1]:
        raise InputError(f"context, outcome and query must be (k, d), (k,) and (q, d), got {context.shape}, {outcome.shape}, {query.shape}")
    if not np.isin(outcome, (0, 1)).all():
        raise InputError("outcome must be 0 or 1 in every context row, got it holds something else")
    if np.isinf(context).any() or np.isinf(query).any():
        raise InputError("context and query must be finite, or NaN where a value is missing, got they hold infinities")
    if not all(0 <= column < context.shape[1] for column in categorical):
        raise InputError(f"categorical must number columns from 0 to {context.shape[1] - 1}, got {list(categorical)}")


def _check_protocol(backbone: object) -> None:
    """Refuse at once what would fail after the encoders were trained."""
    shape = "a backbone is an object with a name and a method risks(context, outcome, query) (docs/guide/bring-your-own-backbone.md)"
    kind = type(backbone).__name__
    if isinstance(backbone, type):
        raise InputError(f"{shape}, got {backbone.__name__} is a class; pass {backbone.__name__}()")
    if not callable(getattr(backbone, "risks", None)):
        hint = ": wrap it, so that risks fits on the context and returns predict_proba(query)[:, 1]"
        raise InputError(f"{shape}, got {kind} has no such method{hint if hasattr(backbone, 'predict_proba') else ''}")
    if not isinstance(getattr(backbone, "name", None), str):
        raise InputError(f"{shape}, got {kind} has no name that is a text")
    try:
        inspect.signature(backbone.risks).bind(None, None, None)  # type: ignore[attr-defined]
    except TypeError as error:
        raise InputError(f"{shape}, got risks of {kind} takes other arguments ({error})") from None
