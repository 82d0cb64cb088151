"""The unknown-patient gate: is this patient of any kind that was seen? At a declared rate of false alarms.

Letters: n rows, q query rows, k classes, c calibration rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted

from nearward.tabular.data.schema import Schema
from nearward.tabular.data.validation import validate_positive_integers, validate_training_data
from nearward.tabular.errors import InputError
from nearward.tabular.novelty.reciprocal_points import Points, learn_points
from nearward.tabular.persistence.estimators import classes_as_json, classes_from_json, read_estimator, write_estimator
from nearward.tabular.preprocessing.frame_encoder import FrameEncoder
from nearward.tabular.preprocessing.table_encoder import CategoryColumn, NumberColumn, TableEncoder
from nearward.tabular.typing import Floats, Ints

_FEWEST = 10  # rows a class
_HELD_OUT = 4  # one patient in so many calibrates the alarm, and teaches nothing


@dataclass(frozen=True)
class FittedGate:
    """The trained points, how they read a frame, and how near the middle calibration rows come.

    Parameters
    ----------
    reading : Reading
    points : Points
    usual : (c,), largest distance to a point of rows that it did not learn from, rising
    """

    reading: FrameEncoder
    points: Points
    usual: Floats


_PARTS = (FittedGate, FrameEncoder, TableEncoder, NumberColumn, CategoryColumn, Points)


class UnknownGate(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Tells patients who are like no class it learned: a new phenotype, another site, a table filled in differently.

    It needs classes that mean something (diagnoses, wards, sites, or the outcome), and helps where the unknown lies between them. It is
    blind to what lies outside: a value out of range pushes a row outwards, where the known are. Use it beside ``novelty`` in
    ``predict_frame``, which is the distance to neighbours, never instead: either ranked better on about half of 18 phenotypes and sites
    that were left out (docs/guide/rare-outcomes.md).

    Parameters
    ----------
    false_alarms : float
        Share of rows of the known classes that may be called unknown.
    width : int
        Of the embedding.
    steps : int
        Of training.
    seed : int
    schema : Schema, optional
        Kinds of the columns; inferred by default.

    Attributes
    ----------
    classes_ : (k,)
    offset_ : float, score below which a row is unknown
    fitted_ : FittedGate

    References
    ----------
    Chen, Peng, Wang, Tian: Adversarial reciprocal points learning for open set recognition (2021); RPM-Net, its form for network attacks.
    The threshold is split-conformal (Vovk, Gammerman, Shafer 2005).

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> kind = draw.choice(["a", "b", "c"], 600)
    >>> middle = {"a": (4, 0), "b": (-4, 0), "c": (0, 4)}
    >>> frame = pl.DataFrame([middle[k] + draw.normal(size=2) for k in kind], schema=["x", "y"], orient="row")
    >>> gate = UnknownGate().fit(frame, kind)
    >>> gate.gate(pl.DataFrame({"x": [4.0, 0.0], "y": [0.0, -3.0]}))["unknown"].to_list()
    [False, True]
    """

    def __init__(
        self, *, false_alarms: float = 0.05, width: int = 32, steps: int = 400, seed: int = 0, schema: Schema | None = None
    ) -> None:
        self.false_alarms = false_alarms
        self.width = width
        self.steps = steps
        self.seed = seed
        self.schema = schema

    def fit(self, X: Any, y: Any, groups: Any = None) -> UnknownGate:
        """Learn the known classes.

        Parameters
        ----------
        X : frame of n rows
        y : (n,), the class of each row, two or more
        groups : (n,), optional, patients: none both teaches and calibrates

        Raises
        ------
        InputError
            One class only, classes of fewer than 10 rows, too few rows for the rate of false alarms, or what cannot be read.
        """
        if not 0 < self.false_alarms < 1:
            raise InputError(f"false_alarms must lie between 0 and 1, got false_alarms={self.false_alarms!r}")
        validate_positive_integers(width=self.width, steps=self.steps)
        frame, target, group = validate_training_data(X, y, groups, max_classes=None)
        self.classes_, code, rows = target.classes, target.outcome, np.bincount(target.outcome)
        if (rows < _FEWEST).any():
            raise InputError(f"{(rows < _FEWEST).sum()} classes have fewer than {_FEWEST} rows: pool them, or leave their rows out")
        held = np.random.default_rng(self.seed).permutation(group.max() + 1)[group] % _HELD_OUT == 0
        if len(np.unique(code[~held])) < len(self.classes_):
            raise InputError("a class has patients only among those that calibrate the alarm: it needs more patients")
        place = ceil((held.sum() + 1) * (1 - self.false_alarms))
        if place > held.sum():
            raise InputError(f"{held.sum()} rows to calibrate on are too few for false_alarms={self.false_alarms}")
        reading = FrameEncoder.fit(frame.filter(~held), self.schema)
        x = reading.dense(frame)
        points = learn_points(x[~held], code[~held], self.width, self.steps, self.seed)
        usual = np.sort(points.distances(x[held]).max(axis=1))
        self.fitted_ = FittedGate(reading, points, usual)
        self.offset_ = float(usual[len(usual) - place])
        self.n_features_in_ = frame.width
        return self

    def score_samples(self, X: Any) -> Floats:
        """Return the distance to the farthest point (q,): small for a row like no known class."""
        return self._distances(X).max(axis=1)  # type: ignore[no-any-return]

    def decision_function(self, X: Any) -> Floats:
        """Return the score less the threshold (q,): below 0 for an unknown row."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> Ints:
        """Return 1 for a known row, -1 for an unknown one (q,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def gate(self, X: Any) -> pl.DataFrame:
        """Say of each of q rows whether it is known.

        Returns
        -------
        pl.DataFrame
            ``row``; ``class``, the most likely one if it is known; ``share``, of calibration rows that are as near the middle (with the row
            itself counted: uniform for known patients); ``unknown``, whether the alarm is raised.
        """
        far = self._distances(X)
        score, usual = far.max(axis=1), self.fitted_.usual
        share = (np.searchsorted(usual, score, side="right") + 1) / (len(usual) + 1)
        return pl.DataFrame(
            {
                "row": np.arange(len(score)),
                "class": pl.Series(self.classes_).gather(far.argmax(axis=1)),
                "share": share,
                "unknown": score < self.offset_,
            }
        )

    def save(self, folder: str | Path) -> None:
        """Write the gate into a folder, made where it is missing; what was there before stays until all is written.

        Raises
        ------
        InputError
            The folder holds something else; classes that are neither text nor numbers.
        """
        check_is_fitted(self, "fitted_")
        learned = {
            "fitted": self.fitted_,
            "offset": self.offset_,
            "columns": self.n_features_in_,
            "classes": classes_as_json(self.classes_),
        }
        write_estimator(folder, "UnknownGate", self.get_params(deep=False), learned)

    @classmethod
    def load(cls, folder: str | Path) -> UnknownGate:
        """Read what ``save`` wrote, every hash checked first.

        Raises
        ------
        ArtefactError
            Not a gate; corrupt; saved by a later version.
        """
        settings, learned = read_estimator(folder, "UnknownGate", _PARTS)
        gate = cls(**settings)
        gate.fitted_, gate.offset_, gate.n_features_in_ = learned["fitted"], learned["offset"], learned["columns"]
        gate.classes_ = classes_from_json(learned["classes"])
        return gate

    def _distances(self, X: Any) -> Floats:
        check_is_fitted(self, "fitted_")
        return self.fitted_.points.distances(self.fitted_.reading.dense(X))
