"""Alerts from several calibrated models: a cascade of seven voting stages decides; the risk itself does not change.

The stages follow CAMO, an ensemble for votes over text classes. Their conditions for two classes and calibrated risks are ours.

Shapes: n rows to fit on, q query rows, m members.

References
----------
CAMO: a class-aware minority-optimized ensemble (arXiv 2604.07583).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, ClassVar

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.data.conversion import as_number
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import refuse_sample_weight, seed_of, validate_fit_inputs
from nearward.tabular.ensemble.cross_fitting import CalibratedModels
from nearward.tabular.errors import DataWarning, InputError, require_columns
from nearward.tabular.statistics import wilson_interval
from nearward.tabular.typing import Bools, Floats, Ints, RandomState

STAGES = ("unanimous", "consensus", "isolated", "abstain", "boosted vote", "margin", "fallback")
_MIN_EVENTS = 10
_MIN_ISOLATED, _MIN_ISOLATED_EVENTS = 10, 5  # patients, and events, from which an isolated alert's PPV is estimated
_BOOSTS = (1.0, 1.25, 1.5, 2.0, 3.0)
_MARGIN = 0.1  # log-odds around the threshold within which the mean risk does not decide
_MISCALIBRATED = (0.5, 2.0)  # observed / expected events


class Alerts(BaseEstimator):  # type: ignore[misc]
    """Decide on alerts by the votes of several calibrated risks, and report which stage decided.

    A member votes for an alert where its risk reaches the threshold. For each row, the first stage that applies decides:

    1. *unanimous*: all members vote alike. 2. *consensus*: at least the share ``consensus`` votes for an alert: alert. 3. *isolated*: an
    outvoted member's risk is so high that its outvoted alerts had a positive predictive value of at least ``ppv_floor``: alert.
    4. *abstain*: the members' log-odds spread wider than in all but the share ``abstain`` of the rows: no decision, for review by a person.
    5. *boosted vote*: the mean log-odds above the threshold, weighted by how well each member ranks and with positive ones boosted, is not
    negative: alert. 6. *margin*: the mean risk is clearly on one side of the threshold. 7. *fallback*: the member that ranks best decides.

    Parameters
    ----------
    members : names of columns, or name -> classifier
        Columns hold calibrated risks; the members must not have been trained on the rows to fit on. Classifiers (with ``fit`` and
        ``predict_proba`` on frames: see ``tabular/ensemble/cross_fitting.py``) are cross-fitted and calibrated here. At least two,
        better three.
    threshold : float, optional
        Risk from which an alert is worth its cost: cost of a false alert / (cost of a false alert + of a missed event). By default the
        event rate.
    ppv_floor : float, optional
        Least positive predictive value of isolated alerts, compared with the lower end of its 95 % interval; by default the threshold,
        where an alert has no net cost.
    consensus : float
        Share of members that suffices for an alert.
    abstain : float
        Greatest share of rows without a decision.
    random_state : int, numpy generator or None
        Seed of the folds, where members are classifiers; None for another result at every fit.
    positive : value or list of values, optional
        The outcome value that is the event; by default the greater of the two.

    Attributes
    ----------
    threshold_ : float
    isolated_threshold_ : (m,), the risk from which an outvoted member alerts; inf where its outvoted alerts were not reliable
    max_spread_ : float, difference of the members' log-odds above which they abstain
    weight_ : (m,), sum 1
    boost_ : float

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.beta(1, 9, 2000)
    >>> risks = pl.DataFrame({name: np.clip(truth * rng.uniform(0.7, 1.3, 2000), 0, 1) for name in ("ours", "boosting", "logistic")})
    >>> alerts = Alerts(members=["ours", "boosting", "logistic"], threshold=0.2).fit(risks, rng.random(2000) < truth)
    >>> alerts.decide(risks).columns
    ['risk', 'alert', 'stage', 'votes']
    """

    __metadata_request__fit: ClassVar = {"groups": True}  # where metadata routing is on

    def __init__(
        self,
        members: Sequence[str] | Mapping[str, Any],
        *,
        threshold: float | None = None,
        ppv_floor: float | None = None,
        consensus: float = 2 / 3,
        abstain: float = 0.01,
        random_state: RandomState = 0,
        positive: Any = None,
    ) -> None:
        self.members = members
        self.threshold = threshold
        self.ppv_floor = ppv_floor
        self.consensus = consensus
        self.abstain = abstain
        self.random_state = random_state
        self.positive = positive

    def fit(self, X: Any, y: Any, groups: Any = None, **fit_params: Any) -> Alerts:
        """Fit the stages on out-of-sample risks: given columns, or cross-fitted classifiers.

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
        refuse_sample_weight(self, fit_params)
        self._check()
        frame, target, patient_ids = validate_fit_inputs(X, y, groups, self.positive)
        target.require_events(_MIN_EVENTS, "fit the votes")
        event = target.outcome
        fitted = copy(self)  # so that an interrupted fit leaves the earlier state as it was
        if isinstance(self.members, Mapping):
            fitted._members, risk = CalibratedModels.fit(self.members, frame, event, patient_ids, seed_of(self.random_state))
        else:
            risk = self._columns(frame)
            self._warn_of_miscalibration(risk, event)
        fitted.event_ = target.event
        fitted.threshold_ = float(event.mean()) if self.threshold is None else float(self.threshold)
        fitted._fit_stages(risk, event, patient_ids)
        self.__dict__.update(vars(fitted))
        return self

    def decide(self, X: Any) -> pl.DataFrame:
        """Decide on q rows.

        Returns
        -------
        pl.DataFrame
            ``risk``, the mean of the members, whatever the stage; ``alert``, null where the members abstain; ``stage``, the one that
            decided; ``votes``, the number of members that voted for an alert.
        """
        check_is_fitted(self, "threshold_")
        frame = to_frame(X)
        risk = self._members.risks(frame) if isinstance(self.members, Mapping) else self._columns(frame)
        alert, stage = self._cascade(risk)
        stages = pl.Series([STAGES[index] for index in stage.tolist()], dtype=pl.Enum(STAGES))
        votes = (risk >= self.threshold_).sum(axis=1)
        table = pl.DataFrame({"risk": risk.mean(axis=1), "alert": alert, "stage": stages, "votes": votes})
        return table.with_columns(alert=pl.when(pl.col("stage") != "abstain").then("alert"))

    def predict(self, X: Any) -> Bools:
        """Return the rows to review (q,): alerts, and rows on which the members abstain."""
        return np.asarray(self.decide(X).get_column("alert").fill_null(True).to_numpy())

    def _check(self) -> None:
        members = [] if isinstance(self.members, str) or self.members is None else list(self.members)
        if len(members) < 2 or len(set(members)) < len(members):
            raise InputError(f"members must be at least two different columns or classifiers, got members={self.members!r}")
        if isinstance(self.members, Mapping):
            unusable = [name for name, model in self.members.items() if not (hasattr(model, "fit") and hasattr(model, "predict_proba"))]
            if unusable:
                raise InputError(f"members {unusable} have no fit or no predict_proba: give classifiers")
        limits = {"threshold": self.threshold, "ppv_floor": self.ppv_floor, "consensus": self.consensus}
        for name, value in limits.items():
            if value is not None and not 0 < value < 1:
                raise InputError(f"{name} must lie between 0 and 1, got {name}={value!r}")
        if not 0 <= self.abstain < 1:
            raise InputError(f"abstain must lie in [0, 1), got abstain={self.abstain!r}")

    def _columns(self, frame: pl.DataFrame) -> Floats:
        require_columns(self.members, frame.columns)
        risk = pl.DataFrame([as_number(frame.get_column(name), name) for name in self.members]).to_numpy()
        invalid = [name for name, column in zip(self.members, risk.T, strict=True) if not ((column >= 0) & (column <= 1)).all()]
        if invalid:
            raise InputError(f"members {invalid} have values that are missing or outside [0, 1]: give calibrated risks")
        return np.asarray(risk)

    def _warn_of_miscalibration(self, risk: Floats, event: Ints) -> None:
        events = int(event.sum())
        expected, std = risk.sum(axis=0), np.sqrt((risk * (1 - risk)).sum(axis=0))
        for name, mean, error in zip(self.members, expected.tolist(), std.tolist(), strict=True):
            ratio = events / max(mean, 1e-9)
            if not _MISCALIBRATED[0] < ratio < _MISCALIBRATED[1] and abs(events - mean) > 3 * error:
                message = f"member {name!r} expects {mean:.0f} events and {events} were observed: calibrate it before it votes"
                warnings.warn(message, DataWarning, stacklevel=4)

    def _fit_stages(self, risk: Floats, event: Ints, patient_ids: Ints) -> None:
        """Fit stage by stage, each on the rows that reach it."""
        from sklearn.metrics import average_precision_score

        m = risk.shape[1]
        self._consensus_votes = math.ceil(self.consensus * m - 1e-9)
        gain = np.array([average_precision_score(event, column) for column in risk.T]) - event.mean()
        gain = gain.clip(1e-6)
        self.weight_, self._best = gain / gain.sum(), int(gain.argmax())
        ppv_floor = self.threshold_ if self.ppv_floor is None else self.ppv_floor
        votes = (risk >= self.threshold_).sum(axis=1)
        split = (votes > 0) & (votes < self._consensus_votes)
        outvoted = split[:, None] & (risk >= self.threshold_)
        self.isolated_threshold_ = np.array(
            [_reliable_from(risk[rows, j], event[rows], patient_ids[rows], ppv_floor) for j, rows in enumerate(outvoted.T)]
        )
        split &= ~(risk >= self.isolated_threshold_).any(axis=1)
        spread = np.sort(_log_odds_spread(risk[split]))[::-1]
        max_abstained = int(self.abstain * len(risk))
        if self.abstain == 0 or not len(spread):
            self.max_spread_ = math.inf
        else:  # rows of wider spread abstain
            self.max_spread_ = float(spread[max_abstained]) if max_abstained < len(spread) else 0.0
        split &= _log_odds_spread(risk) <= self.max_spread_
        benefit = [self._net_benefit(_boosted_vote(risk[split], self.threshold_, self.weight_, boost), event[split]) for boost in _BOOSTS]
        self.boost_ = _BOOSTS[int(np.argmax(benefit))]

    def _net_benefit(self, vote: Floats, event: Ints) -> float:
        """Net benefit, in events, of alerts where the vote is not negative."""
        alert = vote >= 0
        return float(event[alert].sum() - (1 - event[alert]).sum() * self.threshold_ / (1 - self.threshold_))

    def _cascade(self, risk: Floats) -> tuple[Bools, Ints]:
        """Return alerts (q,) and the index of the stage that decided each row (q,)."""
        votes, m = (risk >= self.threshold_).sum(axis=1), risk.shape[1]
        margin = logit(risk.mean(axis=1)) - logit(self.threshold_)
        no = np.zeros(len(risk), dtype=bool)
        stages = [  # whether the stage applies, and its decision
            ((votes == 0) | (votes == m), votes == m),
            (votes >= self._consensus_votes, ~no),
            (((risk >= self.isolated_threshold_) & (risk >= self.threshold_)).any(axis=1), ~no),
            (_log_odds_spread(risk) > self.max_spread_, no),
            (_boosted_vote(risk, self.threshold_, self.weight_, self.boost_) >= 0, ~no),
            (np.abs(margin) >= _MARGIN, margin > 0),
            (~no, risk[:, self._best] >= self.threshold_),
        ]
        stage = np.column_stack([applies for applies, _ in stages]).argmax(axis=1)
        decisions = np.column_stack([decision for _, decision in stages])  # (q, 7)
        return np.asarray(decisions[np.arange(len(risk)), stage]), stage


def _log_odds_spread(risk: Floats) -> Floats:
    """Difference of the members' greatest and least log-odds (q,)."""
    z = logit(risk)
    return np.asarray(z.max(axis=1) - z.min(axis=1))


def _boosted_vote(risk: Floats, threshold: float, weight: Floats, boost: float) -> Floats:
    """Weighted mean of the log-odds above the threshold (q,), positive ones multiplied by ``boost``."""
    margin = logit(risk) - logit(threshold)
    return np.asarray(np.where(margin > 0, boost * margin, margin) @ weight)


def _reliable_from(risk: Floats, event: Ints, patient_ids: Ints, ppv_floor: float) -> float:
    """The lowest risk above which the lower confidence limit of the PPV of a member's isolated alerts reaches the floor; inf if none."""
    order = np.argsort(-risk, kind="stable")
    true_alerts, alerts = np.cumsum(event[order]), np.arange(1, len(order) + 1)
    first_of_patient = np.zeros(len(order), dtype=np.int64)
    first_of_patient[np.unique(patient_ids[order], return_index=True)[1]] = 1
    patients = np.cumsum(first_of_patient)  # the effective sample size: alerts on one patient are not independent
    last_of_ties = np.append(np.diff(risk[order]) != 0, True)[: len(order)]
    enough = (patients >= _MIN_ISOLATED) & (true_alerts >= _MIN_ISOLATED_EVENTS)  # with a floor of 1 %, one event of ten may be chance
    reliable = (wilson_interval(true_alerts / alerts, patients)[0] >= ppv_floor) & enough & last_of_ties
    return float(risk[order][np.flatnonzero(reliable)[-1]]) if reliable.any() else math.inf
