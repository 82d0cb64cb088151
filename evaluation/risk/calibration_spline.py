"""A smooth event rate over log-odds: logistic regression on a natural cubic spline, for many weightings of the cells at once.

Letters: ``j`` cells, ``g`` places, ``k`` columns of the basis, ``r`` weightings.

References
----------
Harrell: Regression Modeling Strategies (2015), 2.4. Austin, Harrell, van Klaveren: Graphical calibration curves and the integrated
calibration index (2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearward.tabular.typing import Floats

_KNOTS = (0.05, 0.35, 0.65, 0.95)  # Harrell's places for four
_RIDGE = 1e-3  # keeps a fit finite where events and rows without are parted; beside tens of events it moves nothing
_STEPS = 40
_LEAP = 3.0  # log-odds that one step may move a cell


@dataclass(frozen=True)
class Spline:
    """Basis of a natural spline over the cells.

    Parameters
    ----------
    cells : (j,), mean log-odds of each cell
    knots : 4 places, or none where the cells are too few for bends and the curve is a line
    middle, width : float
        Log-odds are centred and scaled before they enter.
    """

    cells: Floats
    knots: tuple[float, ...]
    middle: float
    width: float

    @classmethod
    def over(cls, cells: Floats, rows: Floats) -> Spline:
        """Place the knots by how many rows lie where.

        Parameters
        ----------
        cells : (j,), log-odds from the greatest to the least
        rows : (j,)
        """
        order = np.argsort(cells)
        share = (np.cumsum(rows[order]) - 0.5 * rows[order]) / rows.sum()
        middle = float(np.average(cells, weights=rows))
        width = float(np.sqrt(np.average((cells - middle) ** 2, weights=rows))) or 1.0
        knots = tuple(float(x) for x in np.interp(_KNOTS, share, (cells[order] - middle) / width))
        bends = len(cells) > len(_KNOTS) and min(np.diff(knots)) > 0.05
        return cls(cells, knots if bends else (), middle, width)

    def basis(self, log_odds: Floats) -> Floats:
        """Columns of the spline at log-odds (g,): one, the line, and its bends; (g, k)."""
        x = (log_odds - self.middle) / self.width
        columns = [np.ones_like(x), x]
        if self.knots:
            first, *_, before, last = self.knots

            def cube(at: float) -> Floats:
                return np.asarray(np.maximum(x - at, 0.0) ** 3)

            for knot in self.knots[:-2]:
                bend = cube(knot) - cube(before) * (last - knot) / (last - before) + cube(last) * (before - knot) / (last - before)
                columns.append(bend / (last - first) ** 2)
        return np.stack(columns, axis=1)

    def fit(self, rows: Floats, events: Floats, log_odds: Floats) -> Floats:
        """Fit to rows and events of each cell (r, j) and return event rates at ``log_odds`` (g,): (r, g)."""
        x, mix = np.linalg.qr(self.basis(self.cells))  # columns at right angles: Newton's steps stay short
        scale = np.sqrt(len(x))
        x, mix = x * scale, mix / scale
        k = x.shape[1]
        squares = (x[:, :, None] * x[:, None, :]).reshape(len(x), k * k)
        rate = (events.sum(axis=1) + 0.5) / (rows.sum(axis=1) + 1)
        beta = np.log(rate / (1 - rate))[:, None] * mix[:, 0]  # (r, k), a level line
        for _ in range(_STEPS):
            risk = 1 / (1 + np.exp(-np.clip(beta @ x.T, -30, 30)))  # (r, j)
            slope = (events - rows * risk) @ x - _RIDGE * beta
            bend = ((rows * risk * (1 - risk)) @ squares).reshape(-1, k, k) + _RIDGE * np.eye(k)
            step = np.linalg.solve(bend, slope[:, :, None])[:, :, 0]
            reach = np.abs(step @ x.T).max(axis=1, keepdims=True)
            beta += step * np.minimum(1.0, _LEAP / np.maximum(reach, 1e-12))
            if reach.max() < 1e-5:
                break
        at = np.linalg.solve(mix.T, self.basis(log_odds).T)  # (k, g)
        return np.asarray(1 / (1 + np.exp(-np.clip(beta @ at, -30, 30))))
