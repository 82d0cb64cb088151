"""Class-aware alerts: several calibrated models vote, in seven stages, on whether to raise an alert; the risk itself stays what it was.

The order of the stages follows the title and summary of CAMO, made for votes over text classes; what each stage asks of two classes
and calibrated risks is ours.

Letters: n rows to fit on, q query rows, m members.

References
----------
CAMO: a class-aware minority-optimized ensemble (arXiv 2604.07583).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.data.conversion import as_number
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import validate_fit_inputs
from nearward.tabular.ensemble.cross_fitting import Members
from nearward.tabular.errors import DataWarning, InputError, MissingColumns
from nearward.tabular.statistics import wilson_interval
from nearward.tabular.typing import Bools, Floats, Ints

STAGES = ("unanimous", "consensus", "isolated", "abstain", "boosted vote", "margin", "fallback")
_FEWEST_EVENTS = 10
_FEWEST_ISOLATED, _FEWEST_RIGHT = 10, 5  # patients, and events among them, behind a member's right to be believed alone
_BOOSTS = (1.0, 1.25, 1.5, 2.0, 3.0)
_MARGIN = 0.1  # log-odds around the threshold within which the mean risk does not decide
_MISCALIBRATED = (0.5, 2.0)  # observed / expected events


class Alerts(BaseEstimator):  # type: ignore[misc]
    """Decide whom to alert by the votes of several calibrated risks, and say which stage decided.

    A member votes for an alert where its risk reaches the threshold. Then, row by row, the first stage that applies:

    1. *unanimous*: all vote alike. 2. *consensus*: at least the share ``consensus`` votes for it: alert. 3. *isolated*: a member that is
    outvoted is so sure that its alerts were right at least ``ppv_floor`` of the time when it was outvoted: alert. 4. *abstain*: the members
    lie further apart than they did in all but ``abstain`` of the rows: no verdict, a person looks. 5. *boosted vote*: log-odds over the
    threshold, weighed by how well each member ranks, those in favour boosted: alert where they prevail. 6. *margin*: the mean risk is
    clearly on one side of the threshold. 7. *fallback*: the member that ranks best decides.

    Parameters
    ----------
    members : names of columns, or name -> classifier
        Columns hold calibrated risks, and the rows to fit on must be rows that the members had not seen. Classifiers (with ``fit`` and
        ``predict_proba`` over frames: see ``tabular/ensemble/cross_fitting.py``) are cross-fitted and calibrated here. At least two, better three.
    threshold : float, optional
        Risk from which on an alert is worth its cost: cost of a false alert / (cost of a false alert + of a missed event). By default the
        event rate.
    ppv_floor : float, optional
        Share of isolated alerts that must be right, by the lower end of its 95 % interval; by default the threshold, where an alert
        pays for itself.
    consensus : float
        Share of members that is enough.
    abstain : float
        Share of the rows that may be handed to a person.
    seed : int
        Of the folds, where members are classifiers.
    positive : value, optional
        The outcome value that is the event; by default the greater of the two.

    Attributes
    ----------
    threshold_, widest_, boost_ : float
    alone_ : (m,), the risk from which on each member is believed against the others; inf where it never earned it
    weight_ : (m,), sum 1

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> truth = draw.beta(1, 9, 2000)
    >>> risks = pl.DataFrame({name: np.clip(truth * draw.uniform(0.7, 1.3, 2000), 0, 1) for name in ("ours", "boosting", "logistic")})
    >>> alerts = Alerts(members=["ours", "boosting", "logistic"], threshold=0.2).fit(risks, draw.random(2000) < truth)
    >>> alerts.decide(risks).columns
    ['risk', 'alert', 'stage', 'votes']
    """

    def __init__(
        self,
        members: Sequence[str] | Mapping[str, Any],
        *,
        threshold: float | None = None,
        ppv_floor: float | None = None,
        consensus: float = 2 / 3,
        abstain: float = 0.01,
        seed: int = 0,
        positive: Any = None,
    ) -> None:
        self.members = members
        self.threshold = threshold
        self.ppv_floor = ppv_floor
        self.consensus = consensus
        self.abstain = abstain
        self.seed = seed
        self.positive = positive

    def fit(self, X: Any, y: Any, groups: Any = None) -> Alerts:
        """Learn what each member is worth, on rows left out of the members' training (columns) or by cross-fitting (classifiers).

        Parameters
        ----------
        X : frame of n rows
        y : (n,), two values
        groups : (n,), optional, patients

        Raises
        ------
        InputError
            Fewer than two members, risks outside [0, 1] or missing, settings outside their range.
        TooFewEvents
            Fewer than 10 events.
        """
        self._check()
        frame, target, patient = validate_fit_inputs(X, y, groups, self.positive)
        target.require_events(_FEWEST_EVENTS, "settle how members vote")
        event = target.outcome
        if isinstance(self.members, Mapping):
            self._members, risk = Members.fit(self.members, frame, event, patient, self.seed)
        else:
            risk = self._columns(frame)
            self._warn_of_miscalibration(risk, event)
        self.threshold_ = float(event.mean()) if self.threshold is None else float(self.threshold)
        self._settle(risk, event, patient)
        return self

    def decide(self, X: Any) -> pl.DataFrame:
        """Decide on q rows.

        Returns
        -------
        pl.DataFrame
            ``risk``, the plain mean of the members, touched by no stage; ``alert`` (null where the stage is to abstain); ``stage``, the one
            that decided; ``votes``, how many members voted for an alert.
        """
        check_is_fitted(self, "threshold_")
        frame = to_frame(X)
        risk = self._members.risks(frame) if isinstance(self.members, Mapping) else self._columns(frame)
        alert, stage = self._cascade(risk)
        verdict = pl.Series("alert", alert).to_frame().select(pl.when(pl.Series(stage != STAGES.index("abstain"))).then("alert"))
        return pl.DataFrame(
            [
                pl.Series("risk", risk.mean(axis=1)),
                verdict.to_series().alias("alert"),
                pl.Series("stage", [STAGES[at] for at in stage.tolist()], dtype=pl.Enum(STAGES)),
                pl.Series("votes", (risk >= self.threshold_).sum(axis=1)),
            ]
        )

    def predict(self, X: Any) -> Bools:
        """Return who is to be looked at (q,): the alerts, and the rows on which the members abstain."""
        return np.asarray(self.decide(X).get_column("alert").fill_null(True).to_numpy())

    def _check(self) -> None:
        members = [] if isinstance(self.members, str) or self.members is None else list(self.members)
        if len(members) < 2 or len(set(members)) < len(members):
            raise InputError(f"members must be at least two columns or classifiers, each once, got members={self.members!r}")
        if isinstance(self.members, Mapping):
            silent = [name for name, one in self.members.items() if not (hasattr(one, "fit") and hasattr(one, "predict_proba"))]
            if silent:
                raise InputError(f"members {silent} say no risk: classifiers with fit and predict_proba are needed")
        limits = {"threshold": self.threshold, "ppv_floor": self.ppv_floor, "consensus": self.consensus}
        for name, value in limits.items():
            if value is not None and not 0 < value < 1:
                raise InputError(f"{name} must lie between 0 and 1, got {name}={value!r}")
        if not 0 <= self.abstain < 1:
            raise InputError(f"abstain must lie in [0, 1), got abstain={self.abstain!r}")

    def _columns(self, frame: pl.DataFrame) -> Floats:
        missing = [name for name in self.members if name not in frame.columns]
        if missing:
            raise MissingColumns(missing, frame.columns)
        risk = pl.DataFrame([as_number(frame.get_column(name), name) for name in self.members]).to_numpy()
        bad = [name for name, column in zip(self.members, risk.T, strict=True) if not ((column >= 0) & (column <= 1)).all()]
        if bad:
            raise InputError(f"members {bad} hold values that are missing or outside [0, 1]: calibrated risks are needed")
        return np.asarray(risk)

    def _warn_of_miscalibration(self, risk: Floats, event: Ints) -> None:
        expected, spread = risk.sum(axis=0), np.sqrt((risk * (1 - risk)).sum(axis=0))
        for name, there, unsure in zip(self.members, expected.tolist(), spread.tolist(), strict=True):
            ratio = event.sum() / max(there, 1e-9)
            if not _MISCALIBRATED[0] < ratio < _MISCALIBRATED[1] and abs(event.sum() - there) > 3 * unsure:
                told = f"member {name!r} expects {there:.0f} events and {event.sum()} happened: calibrate it before it votes"
                warnings.warn(told, DataWarning, stacklevel=4)

    def _settle(self, risk: Floats, event: Ints, patient: Ints) -> None:
        """Learn, stage by stage, on the rows that reach the stage."""
        from sklearn.metrics import average_precision_score

        m = risk.shape[1]
        self._enough = math.ceil(self.consensus * m - 1e-9)
        gain = np.array([average_precision_score(event, column) for column in risk.T]) - event.mean()
        gain = gain.clip(1e-6)
        self.weight_, self._best = gain / gain.sum(), int(gain.argmax())
        floor = self.threshold_ if self.ppv_floor is None else self.ppv_floor
        votes = (risk >= self.threshold_).sum(axis=1)
        split = (votes > 0) & (votes < self._enough)
        own = split[:, None] & (risk >= self.threshold_)
        self.alone_ = np.array([_believed_from(risk[own[:, j], j], event[own[:, j]], patient[own[:, j]], floor) for j in range(m)])
        split &= ~(risk >= self.alone_).any(axis=1)
        apart = np.sort(_apart(risk[split]))[::-1]
        most = int(self.abstain * len(risk))
        if self.abstain == 0 or not len(apart):
            self.widest_ = math.inf
        else:  # whoever lies further apart abstains: at most so many
            self.widest_ = float(apart[most]) if most < len(apart) else 0.0
        split &= _apart(risk) <= self.widest_
        worth = [self._worth(_boosted(risk[split], self.threshold_, self.weight_, boost), event[split]) for boost in _BOOSTS]
        self.boost_ = _BOOSTS[int(np.argmax(worth))]

    def _worth(self, vote: Floats, event: Ints) -> float:
        """Net benefit, in events, of alerting where the vote is in favour."""
        raised = vote >= 0
        return float(event[raised].sum() - (1 - event[raised]).sum() * self.threshold_ / (1 - self.threshold_))

    def _cascade(self, risk: Floats) -> tuple[Bools, Ints]:
        """Return alerts (q,) and the number of the stage that decided each row (q,)."""
        votes, m = (risk >= self.threshold_).sum(axis=1), risk.shape[1]
        over = logit(risk.mean(axis=1)) - logit(self.threshold_)
        none = np.zeros(len(risk), dtype=bool)
        stages = [  # whether the stage applies, and what it says
            ((votes == 0) | (votes == m), votes == m),
            (votes >= self._enough, ~none),
            (((risk >= self.alone_) & (risk >= self.threshold_)).any(axis=1), ~none),
            (_apart(risk) > self.widest_, none),
            (_boosted(risk, self.threshold_, self.weight_, self.boost_) >= 0, ~none),
            (np.abs(over) >= _MARGIN, over > 0),
            (~none, risk[:, self._best] >= self.threshold_),
        ]
        applies = np.column_stack([one for one, _ in stages])  # (q, 7)
        stage = applies.argmax(axis=1)
        said = np.column_stack([verdict for _, verdict in stages])
        return np.asarray(said[np.arange(len(risk)), stage]), stage


def _apart(risk: Floats) -> Floats:
    """How far the members' log-odds lie apart (q,)."""
    z = logit(risk)
    return np.asarray(z.max(axis=1) - z.min(axis=1))


def _boosted(risk: Floats, threshold: float, weight: Floats, boost: float) -> Floats:
    over = logit(risk) - logit(threshold)
    return np.asarray(np.where(over > 0, boost * over, over) @ weight)


def _believed_from(risk: Floats, event: Ints, patient: Ints, floor: float) -> float:
    """The lowest risk from which on, to the lower end of its interval, enough of a member's isolated alerts were right; inf if none."""
    order = np.argsort(-risk, kind="stable")
    right, alerts = np.cumsum(event[order]), np.arange(1, len(order) + 1)
    first = np.zeros(len(order), dtype=np.int64)
    first[np.unique(patient[order], return_index=True)[1]] = 1
    patients = np.cumsum(first)  # alerts on one patient are not so many proofs
    last_of_equals = np.append(np.diff(risk[order]) != 0, True)[: len(order)]
    proven = (patients >= _FEWEST_ISOLATED) & (right >= _FEWEST_RIGHT)  # where 1 % is enough, one event of ten would do by chance
    good = (wilson_interval(right / alerts, patients)[0] >= floor) & proven & last_of_equals
    return float(risk[order][np.flatnonzero(good)[-1]]) if good.any() else math.inf
