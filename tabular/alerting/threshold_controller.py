"""A threshold that follows: it holds the alert rate, or the recall, while the prevalence or the patients drift.

It moves the threshold and nothing else. The risks stay what they are; where *they* drift from what happens, recalibrate them.

Letters: n rows of a batch (a day, a week).

References
----------
Åström, Hägglund: Advanced PID control (2006). The error's scale and the gains are ours; docs/guide/rare-outcomes.md has the drift they were tried on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.tabular.alerting.pid import PID
from nearward.tabular.calibration.log_odds import expit, logit
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import validate_column
from nearward.tabular.errors import InputError, MissingColumns
from nearward.tabular.persistence.estimators import read_estimator, write_estimator
from nearward.tabular.typing import Bools

# One unit of log-odds moves the logarithm of the alert rate by about one. With such a plant, and gains that shrink as the delay grows, the
# loop is two to three times away from swinging.
_PROPORTIONAL, _INTEGRAL, _DERIVATIVE = 0.1, 0.25, 0.05
_EDGE = 1e-9
_MOST = 2.0  # an error beyond is no worse: one odd batch must not turn everything over
_TOLD = ("rows", "threshold", "alerts", "alert_rate", "at_limit", "events", "recall")
_DOUBT = 4.0  # a batch where so many alerts (or events) are expected is believed by half


class ThresholdController:
    """Hold the alert rate or the recall at a target, batch after batch.

    Parameters
    ----------
    target_alert_rate : float, optional
        Share of rows to alert: .05 is 5 of 100 patients.
    target_recall : float, optional
        Share of events to alert; needs outcomes, which may come later. Name one of the two.
    delay : int
        Batches until outcomes are known; the longer, the gentler it moves, or it would answer yesterday's error again and again.
    lowest, highest : float
        Risks between which the threshold stays, whatever happens: below ``lowest`` an alert is never worth it.

    Attributes
    ----------
    threshold : float
        Rows whose risk reaches it are alerted.

    Raises
    ------
    InputError
        No target or two, one outside (0, 1), limits that leave no room.

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> controller = ThresholdController(target_alert_rate=0.05).start(draw.beta(1, 9, 1000))
    >>> weeks = pl.DataFrame({"week": np.repeat(np.arange(60), 200), "risk": draw.beta(1, 4, 12000)})  # twice the risk than before
    >>> told = controller.run(weeks, "risk", "week")
    >>> told["alert_rate"][:5].mean() > 0.1, abs(told["alert_rate"][20:].mean() - 0.05) < 0.005
    (True, True)
    """

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
        named = {name: value for name, value in targets.items() if value is not None}
        if len(named) != 1:
            raise InputError(f"name target_alert_rate or target_recall, one of them, got {targets}")
        if not all(0 < value < 1 for value in named.values()):
            raise InputError(f"the target must lie between 0 and 1, got {named}")
        if not 0 < lowest < highest < 1:
            raise InputError(f"0 < lowest < highest < 1 must hold, got lowest={lowest!r}, highest={highest!r}")
        self.target_alert_rate, self.target_recall = target_alert_rate, target_recall
        if not isinstance(delay, int | np.integer) or delay < 0:
            raise InputError(f"delay must be a whole number of batches from 0, got delay={delay!r}")
        self.lowest, self.highest, self.delay = lowest, highest, delay
        self._begin(0.5 * (lowest + highest))

    def start(self, risk: Any, outcome: Any = None) -> ThresholdController:
        """Begin at the threshold that would have met the target on past risks (n,), of rows that the model did not learn from."""
        known = _risks(risk)
        if self.target_alert_rate is not None:
            self._begin(float(np.quantile(known, 1 - self.target_alert_rate)))
            return self
        event = _events(outcome, len(known))
        if not event.any():
            raise InputError("no event among the rows to start from: the recall cannot be known")
        self._begin(float(np.quantile(known[event], 1 - float(self.target_recall or 0))))
        return self

    def alert(self, risk: Any) -> Bools:
        """Return which rows are alerted, (n,); nothing is learned."""
        return np.asarray(_risks(risk) >= self.threshold)

    def learn(self, alerted: Any, outcome: Any = None) -> float:
        """Move the threshold by how far a batch's alerts (n,) were off the target, and return the new one.

        Parameters
        ----------
        alerted : (n,), bool, as they were raised; a batch without rows teaches nothing
        outcome : (n,), 0 or 1, where the recall is held; a batch without events teaches nothing
        """
        raised = _events(alerted, np.size(alerted), "alerts")
        if self.target_alert_rate is not None:
            expected = self.target_alert_rate * len(raised)
            off = (float(raised.sum()) - expected) / expected if expected else 0.0
        else:
            event = _events(outcome, len(raised))
            expected, target = float(event.sum()), float(self.target_recall or 0)
            off = (float(raised[event].mean()) - target) / (target * (1 - target)) if expected else 0.0
        if expected > 0:  # errors in proportion, not their logarithms: what is summed to nothing is then the mean that was promised
            off = min(max(off, -_MOST), _MOST)
            self.threshold = float(expit(self._pid.step(off * expected / (expected + _DOUBT))))
        return self.threshold

    def run(self, frame: pl.DataFrame | pl.LazyFrame, risk: str, time: str, outcome: str | None = None) -> pl.DataFrame:
        """Go through past batches in the order of their time, as it would have gone.

        Parameters
        ----------
        frame : rows with the columns named
        risk, time : str
            Rows of the same time are a batch; the threshold of a batch knows earlier batches alone.
        outcome : str, optional
            0 or 1; needed where the recall is held, and then used ``delay`` batches later.

        Returns
        -------
        pl.DataFrame, one row a batch
            The time, ``rows``, ``threshold``, ``alerts``, ``alert_rate``, ``at_limit``; with outcomes ``events`` and ``recall``.
        """
        table = to_frame(frame)
        needed = [risk, time, *([outcome] if outcome is not None else [])]
        missing = [name for name in needed if name not in table.columns]
        if missing:
            raise MissingColumns(missing, table.columns)
        if self.target_recall is not None and outcome is None:
            raise InputError("to hold the recall, name the column of the outcome (outcome=)")
        if time in _TOLD:
            raise InputError(f"column {time!r} would be written over: rename it")
        validate_column(table.get_column(time), table.height, f"column {time!r}")  # who has no time has no batch
        kept: list[tuple[Bools, NDArray[np.bool_] | None]] = []
        rows = []
        for (when,), batch in table.sort(time, maintain_order=True).group_by(time, maintain_order=True):
            raised = self.alert(batch.get_column(risk))
            event = None if outcome is None else _events(batch.get_column(outcome), batch.height)
            at_limit = not self.lowest + _EDGE < self.threshold < self.highest - _EDGE
            told = {time: when, "rows": batch.height, "threshold": self.threshold, "alerts": int(raised.sum()), "at_limit": at_limit}
            if event is not None:
                told |= {"events": int(event.sum()), "recall": float(raised[event].mean()) if event.any() else None}
            rows.append(told | {"alert_rate": float(raised.mean())})
            kept.append((raised, event))
            if len(kept) > self._wait:
                self.learn(*kept.pop(0))
        return pl.DataFrame(rows, infer_schema_length=None)

    def save(self, folder: str | Path) -> None:
        """Write the controller into a folder with what it remembers, so that next week's goes on where this week's stopped.

        Raises
        ------
        InputError
            The folder holds something else.
        """
        settings = {name: getattr(self, name) for name in ("target_alert_rate", "target_recall", "delay", "lowest", "highest")}
        write_estimator(folder, "ThresholdController", settings, {"pid": self._pid, "threshold": self.threshold})

    @classmethod
    def load(cls, folder: str | Path) -> ThresholdController:
        """Read what ``save`` wrote, every hash checked first.

        Raises
        ------
        ArtefactError
            Not a controller; corrupt; saved by a later version.
        """
        settings, learned = read_estimator(folder, "ThresholdController", [PID])
        controller = cls(**settings)
        controller._pid, controller.threshold = learned["pid"], learned["threshold"]
        return controller

    @property
    def _wait(self) -> int:
        return self.delay if self.target_recall is not None else 0  # alerts are known at once

    def _begin(self, threshold: float) -> None:
        ends = [float(logit(end, _EDGE)) for end in (self.lowest, self.highest)]
        first = min(max(float(logit(threshold, _EDGE)), ends[0]), ends[1])
        gains = (gain / (1 + self._wait / 2) for gain in (_PROPORTIONAL, _INTEGRAL, _DERIVATIVE))
        self._pid = PID(first, *ends, *gains)
        self.threshold = float(expit(first))


def _risks(risk: Any) -> NDArray[np.float64]:
    values = _numbers("risks", risk)
    if values.ndim != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"risks must be one column of probabilities in [0, 1], none missing, got shape {values.shape}")
    return values


def _events(outcome: Any, rows: int, what: str = "outcomes") -> Bools:
    values = _numbers(what, outcome if outcome is not None else [])
    if values.shape != (rows,) or not np.isin(values, (0, 1)).all():
        raise InputError(f"{what} must be {rows} values of 0 or 1, none missing: the target is held by them")
    return np.asarray(values == 1)


def _numbers(what: str, values: Any) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what} must be one column of numbers, got {type(values).__name__}") from None
