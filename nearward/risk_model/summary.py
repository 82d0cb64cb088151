"""The summary of a fit: the size of the cohort, the parts in use and why, and their figures out of fold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nearward.evaluation.stats.cluster_bootstrap import Scale, bootstrap_interval, cluster_bootstrap
from nearward.evaluation.stats.confidence import defined
from nearward.retrieval.neighbors.binary import SettingTrial
from nearward.retrieval.neighbors.voting import RetrievalSetting
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.parallel import single_threaded
from nearward.tabular.statistics import weighted_auroc, weighted_average_precision
from nearward.tabular.typing import Floats

_RESAMPLES = 200  # of patients, for the intervals of a sample's figures


@dataclass(frozen=True)
class RetrievalSummary:
    """How similar patients are found.

    Parameters
    ----------
    embedding : "AWARE encoders" or "linear metric"
    setting : RetrievalSetting, the one in use
    why : str, optional
        Why a linear metric is in use.
    tried : tuple of SettingTrial, of a binary outcome
    vote_log_loss : dict, log-loss of the vote by embedding, of an outcome with more classes
    """

    embedding: str
    setting: RetrievalSetting
    why: str | None = None
    tried: tuple[SettingTrial, ...] = ()
    vote_log_loss: dict[str, float] | None = None

    def __str__(self) -> str:
        return self.embedding if self.why is None else f"{self.embedding}: {self.why}"


@dataclass(frozen=True)
class AdapterSummary:
    """Whether a low-rank adapter is in use, and the in-context model's AUPRC without and with it."""

    in_use: bool
    why: str
    auprc_without: float | None = None
    auprc_with: float | None = None


@dataclass(frozen=True)
class BackboneSummary:
    """Whether an in-context model is in use.

    Parameters
    ----------
    in_use : bool
    why : str
    name : str, optional
    members : int, optional
        Ensemble size of the embedded model.
    adapter : AdapterSummary, optional
    auprc : float, optional
        Of the in-context model alone.
    auprc_without, auprc_with : float, optional
        Of the stack without and with it.
    """

    in_use: bool
    why: str
    name: str | None = None
    members: int | None = None
    adapter: AdapterSummary | None = None
    auprc: float | None = None
    auprc_without: float | None = None
    auprc_with: float | None = None


@dataclass(frozen=True)
class BaseLearnerFigures:
    """AUPRC of a base learner out of fold, and its weight in the stack; means over the classes where there are more than two."""

    auprc: float
    weight: float


@dataclass(frozen=True)
class ClassFigures:
    """One class against the rest: its rows, and how its probability ranks."""

    rows: int
    auprc: float
    auroc: float


@dataclass(frozen=True)
class OutOfFoldSummary:
    """Figures of scores from models that have not seen the row's patient.

    Parameters
    ----------
    auprc, auroc : float, of the stack; means over the classes where there are more than two
    base_learners : dict by name, of everything that the stack weighs
    log_loss : float, optional
    classes : tuple of ClassFigures, where there are more than two
    auprc_interval, auroc_interval : (low, high), optional
        95 %, patients resampled; where the rows are a sample of the table, for two classes.
    """

    auprc: float
    auroc: float
    base_learners: dict[str, BaseLearnerFigures]
    log_loss: float | None = None
    classes: tuple[ClassFigures, ...] = ()
    auprc_interval: tuple[float, float] | None = None
    auroc_interval: tuple[float, float] | None = None

    def describe(self, name: Literal["auprc", "auroc"]) -> str:
        """Return a figure as text, with its interval if there is one: "AUPRC 0.183 (0.175 to 0.191)"."""
        interval = getattr(self, f"{name}_interval")
        spread = "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"
        return f"{name.upper()} {getattr(self, name):.3f}{spread}"


@dataclass(frozen=True)
class FitSummary:
    """What ``RiskClassifier.fit`` did: the value of ``summary_``.

    Parameters
    ----------
    rows, events, patients, folds : int
        Of all rows of the table, which are all indexed; ``events`` counts the rows outside the commonest class where there are more
        than two.
    retrieval : RetrievalSummary
    backbone : BackboneSummary
    out_of_fold : OutOfFoldSummary
    stack_shrinkage : float, optional
        Penalty that draws the stack's weights to their mean.
    taught : int, optional
        Rows that everything was learned from, a weighted sample of the table; None where all rows taught.
    """

    rows: int
    events: int
    patients: int
    folds: int
    retrieval: RetrievalSummary
    backbone: BackboneSummary
    out_of_fold: OutOfFoldSummary
    stack_shrinkage: float | None = None
    taught: int | None = None

    def describe_rows(self) -> str:
        """Return the table's size as text, and how many of its rows taught where not all did."""
        rows = f"{self.rows} rows of {self.patients} patients"
        return rows if self.taught is None else f"{rows}, all indexed; learned from a weighted sample of {self.taught} rows"

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries; fields without a value are left out."""
        values: dict[str, Any] = _without_empty(asdict(self))
        return values


@single_threaded()
def ranking_intervals(data: TrainingData, out_of_fold: Floats) -> list[tuple[float, float] | None]:
    """Return 95 % intervals of AUPRC and AUROC of weighted rows, patients resampled."""
    ranking = [weighted_average_precision(data.outcome, out_of_fold), weighted_auroc(data.outcome, out_of_fold)]
    patient_ids = np.unique(data.patient_ids, return_inverse=True)[1]

    def figures(times: NDArray[np.uint16]) -> Floats:
        with np.errstate(invalid="ignore"):  # a resample without events has no value
            return np.array([[figure(data.row_weight * row) for figure in ranking] for row in times])

    resampled = cluster_bootstrap(patient_ids, figures, _RESAMPLES, seed=0)  # (resamples, 2)
    affected = len(np.unique(patient_ids[data.outcome == 1]))
    scales: tuple[Scale, Scale] = ("skewed", "odds")
    results = [
        defined(bootstrap_interval(figure(data.row_weight), values, scale, affected, len(data)))
        for figure, values, scale in zip(ranking, resampled.T, scales, strict=True)
    ]
    return [None if result is None else (result.low, result.high) for result in results]


PERSISTED_TYPES: tuple[type, ...] = (
    FitSummary, RetrievalSummary, SettingTrial, RetrievalSetting, BackboneSummary, AdapterSummary, OutOfFoldSummary, BaseLearnerFigures,
    ClassFigures,
)  # fmt: skip


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_empty(one) for name, one in value.items() if one is not None and one != ()}
    return [_without_empty(one) for one in value] if isinstance(value, tuple) else value
