"""A smooth calibration curve: logistic regression on a natural cubic spline of the log-odds, for many weightings of the bins at once.

Shapes: ``j`` bins, ``g`` points, ``k`` columns of the basis, ``r`` weightings.

References
----------
Harrell: Regression Modeling Strategies (2015), 2.4. Austin, Harrell, van Klaveren: Graphical calibration curves and the integrated
calibration index (2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from nearward.tabular.typing import Floats

_KNOT_QUANTILES = (0.05, 0.35, 0.65, 0.95)  # Harrell's, for four knots
_RIDGE = 1e-3  # keeps a fit finite where events and rows without are separated; beside tens of events it changes nothing
_MAX_STEPS = 40
_MAX_LEAP = 3.0  # log-odds by which one Newton step may change a bin
_CLIP = 30.0


@dataclass(frozen=True)
class CalibrationSpline:
    """Basis of a natural spline over bins of rows.

    Parameters
    ----------
    bins : (j,), mean log-odds of each bin
    knots : 4 positions, or none where the bins are too few for a spline and the curve is a line
    centre, scale : float
        Log-odds are standardised before they enter.
    """

    bins: Floats
    knots: tuple[float, ...]
    centre: float
    scale: float

    @classmethod
    def fit_basis(cls, bins: Floats, rows: Floats) -> CalibrationSpline:
        """Put the knots at quantiles of the rows.

        Parameters
        ----------
        bins : (j,), log-odds from the greatest to the least
        rows : (j,)
        """
        order = np.argsort(bins)
        cumulative = (np.cumsum(rows[order]) - 0.5 * rows[order]) / rows.sum()
        centre = float(np.average(bins, weights=rows))
        scale = float(np.sqrt(np.average((bins - centre) ** 2, weights=rows))) or 1.0
        knots = tuple(float(x) for x in np.interp(_KNOT_QUANTILES, cumulative, (bins[order] - centre) / scale))
        enough = len(bins) > len(_KNOT_QUANTILES) and min(np.diff(knots)) > 0.05
        return cls(bins, knots if enough else (), centre, scale)

    def basis(self, log_odds: Floats) -> Floats:
        """Columns of the spline at log-odds (g,): constant, linear, and the truncated cubics; (g, k)."""
        x = (log_odds - self.centre) / self.scale
        columns = [np.ones_like(x), x]
        if self.knots:
            first, *_, penultimate, last = self.knots

            def cube(knot: float) -> Floats:
                return np.asarray(np.maximum(x - knot, 0.0) ** 3)

            for knot in self.knots[:-2]:
                before_last = cube(penultimate) * (last - knot) / (last - penultimate)
                after_last = cube(last) * (penultimate - knot) / (last - penultimate)
                columns.append((cube(knot) - before_last + after_last) / (last - first) ** 2)
        return np.stack(columns, axis=1)

    def event_rates(self, rows: Floats, events: Floats, log_odds: Floats) -> Floats:
        """Fit to rows and events of each bin (r, j) and return event rates at ``log_odds`` (g,): (r, g)."""
        x, triangle = np.linalg.qr(self.basis(self.bins))  # orthogonal columns: Newton's steps stay short
        norm = np.sqrt(len(x))
        x, triangle = x * norm, triangle / norm
        k = x.shape[1]
        outer = (x[:, :, None] * x[:, None, :]).reshape(len(x), k * k)
        rate = (events.sum(axis=1) + 0.5) / (rows.sum(axis=1) + 1)
        beta = logit(rate)[:, None] * triangle[:, 0]  # (r, k), a constant rate
        for _ in range(_MAX_STEPS):
            risk = expit(np.clip(beta @ x.T, -_CLIP, _CLIP))  # (r, j)
            gradient = (events - rows * risk) @ x - _RIDGE * beta
            hessian = ((rows * risk * (1 - risk)) @ outer).reshape(-1, k, k) + _RIDGE * np.eye(k)
            step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
            reach = np.abs(step @ x.T).max(axis=1, keepdims=True)
            beta += step * np.minimum(1.0, _MAX_LEAP / np.maximum(reach, 1e-12))
            if reach.max() < 1e-5:
                break
        points = np.linalg.solve(triangle.T, self.basis(log_odds).T)  # (k, g)
        return np.asarray(expit(np.clip(beta @ points, -_CLIP, _CLIP)))
