"""Threshold control: a PID controller holds the alert rate, or the recall, at a target while prevalence or patients drift.

It changes the threshold only, never the risks. Recalibrate them where they drift from the observed outcomes.

Shapes: n rows of a batch (a day, a week).

References
----------
Åström, Hägglund: Advanced PID control (2006). The scale of the error and the gains are ours; docs/guide/rare-outcomes.md shows
them under drift.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.alerting.pid import PID
from nearward.tabular.calibration.log_odds import expit, logit
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import validate_column
from nearward.tabular.errors import InputError, require_columns
from nearward.tabular.persistence.estimators import SavableEstimator
from nearward.tabular.typing import Bools, Floats

# The plant's gain: one unit of log-odds of the threshold changes the logarithm of the alert rate by about one. With these controller
# gains, divided by a factor that grows with the delay, the loop has a gain margin of two to three.
_PROPORTIONAL, _INTEGRAL, _DERIVATIVE = 0.1, 0.25, 0.05
_EDGE = 1e-9
_MAX_ERROR = 2.0  # errors are clipped here: one unusual batch must not dominate
_OUTPUT_COLUMNS = ("rows", "threshold", "alerts", "alert_rate", "at_limit", "events", "recall")
_HALF_WEIGHT = 4.0  # the expected alerts (or events) of a batch that is weighted by one half


class ThresholdController(SavableEstimator):
    """Hold the alert rate or the recall at a target, batch after batch.

    Parameters
    ----------
    target_alert_rate : float, optional
        Share of rows to alert: .05 is 5 of 100 patients.
    target_recall : float, optional
        Share of events to alert; needs outcomes, which may arrive later. Give exactly one of the two targets.
    delay : int
        Batches until outcomes are known; the longer, the smaller the gains.
    lowest, highest : float
        Limits of the threshold: below ``lowest`` an alert is never worth it.

    Attributes
    ----------
    threshold : float
        Rows with at least this risk are alerted.

    Raises
    ------
    InputError
        No target or two, a target outside (0, 1), or ``lowest`` not below ``highest``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> controller = ThresholdController(target_alert_rate=0.05).start(rng.beta(1, 9, 1000))
    >>> weeks = pl.DataFrame({"week": np.repeat(np.arange(60), 200), "risk": rng.beta(1, 4, 12000)})  # twice the risk as before
    >>> history = controller.run(weeks, "risk", "week")
    >>> history["alert_rate"][:5].mean() > 0.1, abs(history["alert_rate"][20:].mean() - 0.05) < 0.005
    (True, True)
    """

    _fitted_attributes = ("threshold", "_pid")
    _state_types = (PID,)

    def __init__(
        self,
        target_alert_rate: float | None = None,
        target_recall: float | None = None,
        *,
        delay: int = 0,
        lowest: float = 1e-3,
        highest: float = 0.99,
    ) -> None:
        targets = {"target_alert_rate": target_alert_rate, "target_recall": target_recall}
        chosen = {name: value for name, value in targets.items() if value is not None}
        if len(chosen) != 1:
            raise InputError(f"exactly one of target_alert_rate and target_recall must be given, got {targets}")
        if not all(0 < value < 1 for value in chosen.values()):
            raise InputError(f"the target must lie between 0 and 1, got {chosen}")
        if not 0 < lowest < highest < 1:
            raise InputError(f"0 < lowest < highest < 1 must hold, got lowest={lowest!r}, highest={highest!r}")
        self.target_alert_rate, self.target_recall = target_alert_rate, target_recall
        if not isinstance(delay, int | np.integer) or delay < 0:
            raise InputError(f"delay must be a whole number of batches from 0, got delay={delay!r}")
        self.lowest, self.highest, self.delay = lowest, highest, delay
        self._reset(0.5 * (lowest + highest))

    def start(self, risk: Any, outcome: Any = None) -> ThresholdController:
        """Set the threshold that meets the target on past risks (n,), of rows that the model was not trained on."""
        past = _risks(risk)
        if self.target_alert_rate is not None:
            self._reset(float(np.quantile(past, 1 - self.target_alert_rate)))
            return self
        event = _binary(outcome, len(past))
        if not event.any():
            raise InputError("no event among the past rows: the recall is undefined")
        self._reset(float(np.quantile(past[event], 1 - float(self.target_recall or 0))))
        return self

    def alert(self, risk: Any) -> Bools:
        """Return which rows are alerted (n,); the threshold does not change."""
        return np.asarray(_risks(risk) >= self.threshold)

    def learn(self, alerted: Any, outcome: Any = None) -> float:
        """Update the threshold by a batch's deviation from the target, and return the new one.

        Parameters
        ----------
        alerted : (n,), bool, as they were raised; a batch without rows changes nothing
        outcome : (n,), 0 or 1, with ``target_recall``; a batch without events changes nothing
        """
        alerts = _binary(alerted, np.size(alerted), "alerts")
        if self.target_alert_rate is not None:
            expected = self.target_alert_rate * len(alerts)
            error = (float(alerts.sum()) - expected) / expected if expected else 0.0
        else:
            event = _binary(outcome, len(alerts))
            expected, target = float(event.sum()), float(self.target_recall or 0)
            error = (float(alerts[event].mean()) - target) / (target * (1 - target)) if expected else 0.0
        if expected > 0:  # relative errors, not logarithms of ratios: their sum is zero where the mean is at the target
            error = min(max(error, -_MAX_ERROR), _MAX_ERROR)
            self.threshold = float(expit(self._pid.step(error * expected / (expected + _HALF_WEIGHT))))
        return self.threshold

    def run(self, frame: pl.DataFrame | pl.LazyFrame, risk: str, time: str, outcome: str | None = None) -> pl.DataFrame:
        """Simulate past batches in the order of their time.

        Parameters
        ----------
        frame : rows with the columns named below
        risk, time : str
            Rows of the same time are a batch; a batch's threshold depends on earlier batches only.
        outcome : str, optional
            0 or 1; required with ``target_recall``, and then used ``delay`` batches later.

        Returns
        -------
        pl.DataFrame, one row a batch
            The time, ``rows``, ``threshold``, ``alerts``, ``alert_rate``, ``at_limit``; with outcomes ``events`` and ``recall``.
        """
        table = to_frame(frame)
        require_columns([risk, time, *([outcome] if outcome is not None else [])], table.columns)
        if self.target_recall is not None and outcome is None:
            raise InputError("target_recall needs the column of the outcome (outcome=)")
        if time in _OUTPUT_COLUMNS:
            raise InputError(f"column {time!r} would be overwritten: rename it")
        validate_column(table.get_column(time), table.height, f"column {time!r}")
        pending: list[tuple[Bools, Bools | None]] = []
        rows = []
        for (when,), batch in table.sort(time, maintain_order=True).group_by(time, maintain_order=True):
            alerts = self.alert(batch.get_column(risk))
            event = None if outcome is None else _binary(batch.get_column(outcome), batch.height)
            at_limit = not self.lowest + _EDGE < self.threshold < self.highest - _EDGE
            row = {time: when, "rows": batch.height, "threshold": self.threshold, "alerts": int(alerts.sum()), "at_limit": at_limit}
            if event is not None:
                row |= {"events": int(event.sum()), "recall": float(alerts[event].mean()) if event.any() else None}
            rows.append(row | {"alert_rate": float(alerts.mean())})
            pending.append((alerts, event))
            if len(pending) > self._effective_delay:
                self.learn(*pending.pop(0))
        return pl.DataFrame(rows, infer_schema_length=None)

    @property
    def _effective_delay(self) -> int:
        return self.delay if self.target_recall is not None else 0  # alerts are known at once

    def _reset(self, threshold: float) -> None:
        low, high = (float(logit(limit, _EDGE)) for limit in (self.lowest, self.highest))
        bias = min(max(float(logit(threshold, _EDGE)), low), high)
        gains = (gain / (1 + self._effective_delay / 2) for gain in (_PROPORTIONAL, _INTEGRAL, _DERIVATIVE))
        self._pid = PID(bias, low, high, *gains)
        self.threshold = float(expit(bias))


def _risks(risk: Any) -> Floats:
    values = _numbers(risk, "risks")
    if values.ndim != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"risks must be one column of probabilities in [0, 1], none missing, got shape {values.shape}")
    return values


def _binary(values: Any, n_rows: int, name: str = "outcomes") -> Bools:
    numbers = _numbers(values if values is not None else [], name)
    if numbers.shape != (n_rows,) or not np.isin(numbers, (0, 1)).all():
        raise InputError(f"{name} must be {n_rows} values of 0 or 1, none missing, got shape {numbers.shape} or other values")
    return np.asarray(numbers == 1)


def _numbers(values: Any, name: str) -> Floats:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be one column of numbers, got {type(values).__name__}") from None
