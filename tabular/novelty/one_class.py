"""One-class: what rows without the event look like, and how far a row is from that. A score, never a probability.

Letters: n rows, q query rows, p encoded columns, e embedding width, r reference rows, c held-out rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import validate_groups, validate_positive_integers, validate_target
from nearward.tabular.errors import InputError
from nearward.tabular.novelty.one_class_networks import Layers, place, train_by_contrast, train_to_a_centre
from nearward.tabular.preprocessing.frame_encoder import FrameEncoder
from nearward.tabular.typing import Floats

METHODS = ("dsvdd", "droc")
_FEWEST = 50  # rows without the event
_HELD_OUT = 5  # one patient in so many says where the budget's threshold lies, and teaches nothing
_REFERENCES = 1000
_NEAREST = 10  # references that a distance is the mean to


@dataclass(frozen=True)
class FittedOneClass:
    """A trained encoder and what distances are taken from.

    Parameters
    ----------
    reading : Reading
    layers : matrices of the bias-free encoder
    reference : (r, e)
        The centre alone; or embeddings of rows without the event.
    usual : (c,), scores of rows without the event that it did not learn from, rising
    """

    reading: FrameEncoder
    layers: Layers
    reference: Floats
    usual: Floats

    def scores(self, X: Any) -> Floats:
        """Return how far q rows are from those without the event (q,), on a logarithmic scale."""
        return _far(place(self.layers, self.reading.dense(X)), self.reference)


class OneClass(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """How unlike the rows without the event a row is: an expert for the panel, or a ranker where events are too few to learn from.

    Trained on rows without the event alone, of patients who never had it. ``RiskClassifier(experts=[OneClass()])`` puts it into the panel,
    where its score is cross-fitted and the risk stays calibrated; by itself it ranks, and ``nearward.screen`` says how well.
    It helps where events are unlike everything else in the table; most clinical events are not, and then a supervised model passes it at a
    handful of events (docs/guide/rare-outcomes.md has the figure).

    Parameters
    ----------
    method : "dsvdd" or "droc"
        Distance to the centre of a bias-free encoder; or to the nearest rows without the event in the embedding of a contrastive one, for
        which a row with a block of columns masked is a row of its own.
    budget : float
        Share of rows without the event that ``predict`` alerts.
    width : int
        Of the embedding.
    steps : int
        Of training.
    seed : int
    positive : value, optional
        The outcome value that is the event; by default the greater of the two.
    schema : Schema, optional
        Kinds, and blocks for the masks; inferred by default.

    Attributes
    ----------
    classes_ : (2,), the event last
    threshold_ : float, score above which ``predict`` alerts
    fitted_ : FittedOneClass

    References
    ----------
    Ruff et al.: Deep one-class classification (2018). Sohn, Li, Yoon, Jin, Pfister: Learning and evaluating representations for deep
    one-class classification (2021).

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> usual = pl.DataFrame(draw.normal(size=(300, 4)), schema=["a", "b", "c", "d"])
    >>> ranker = OneClass(steps=50).fit(usual, None)
    >>> strange = pl.DataFrame({"a": [0.0, 9.0], "b": [0.0, -9.0], "c": [0.0, 9.0], "d": [0.0, 9.0]})
    >>> ranker.rank(strange)["alert"].to_list()
    [False, True]
    """

    def __init__(
        self,
        *,
        method: Literal["dsvdd", "droc"] = "dsvdd",
        budget: float = 0.05,
        width: int = 32,
        steps: int = 400,
        seed: int = 0,
        positive: Any = None,
        schema: Schema | None = None,
    ) -> None:
        self.method = method
        self.budget = budget
        self.width = width
        self.steps = steps
        self.seed = seed
        self.positive = positive
        self.schema = schema

    def fit(self, X: Any, y: Any = None, groups: Any = None) -> OneClass:
        """Learn what rows without the event look like.

        Parameters
        ----------
        X : frame of n rows
        y : (n,), optional
            The outcome; without it no row has the event.
        groups : (n,), optional, patients: whoever had the event once teaches nothing

        Raises
        ------
        InputError
            Fewer than 50 rows are left, or what cannot be read.
        """
        self._check()
        frame = to_frame(X)
        n_rows = frame.height
        target = validate_target(np.zeros(n_rows, dtype=int) if y is None else y, n_rows, self.positive, min_classes=1)
        group, outcome = validate_groups(groups, n_rows), target.outcome
        self.classes_ = target.classes if len(target.classes) == 2 else np.array([0, 1])
        ill = np.isin(group, group[outcome == 1])
        if (~ill).sum() < _FEWEST:
            raise InputError(f"refused: {(~ill).sum()} rows of patients without the event are too few for one-class; {_FEWEST} are needed")
        usual, group = frame.filter(~ill), np.unique(group[~ill], return_inverse=True)[1]
        held = np.random.default_rng(self.seed).permutation(group.max() + 1)[group] % _HELD_OUT == 0
        if held.all():
            raise InputError("refused: all rows without the event are of one patient; two are needed, as one is left out for the threshold")
        reading = FrameEncoder.fit(usual.filter(~held), self.schema)
        x = reading.dense(usual)
        self.fitted_ = self._train(reading, x[~held], x[held])
        self.threshold_ = float(np.quantile(self.fitted_.usual, 1 - self.budget))
        self.n_features_in_ = frame.width
        return self

    def decision_function(self, X: Any) -> Floats:
        """Return the score less the threshold (q,): above 0 where a row is alerted, higher where it is less like the usual."""
        check_is_fitted(self, "fitted_")
        return self.fitted_.scores(X) - self.threshold_

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the event's class for alerted rows (q,)."""
        return np.asarray(self.classes_[(self.decision_function(X) > 0).astype(int)])

    def rank(self, X: Any) -> pl.DataFrame:
        """Return q rows, in their order: ``row``, ``score``, ``share`` (of rows without the event that are less unusual), ``alert``."""
        score = self.decision_function(X) + self.threshold_
        share = np.searchsorted(self.fitted_.usual, score) / len(self.fitted_.usual)
        return pl.DataFrame({"row": np.arange(len(score)), "score": score, "share": share, "alert": score > self.threshold_})

    def _train(self, reading: FrameEncoder, x: Floats, held: Floats) -> FittedOneClass:
        if self.method == "dsvdd":
            layers, centre = train_to_a_centre(x, self.width, self.steps, self.seed)
            reference = centre[None]
        else:
            layers = train_by_contrast(x, reading.blocks(x), self.width, self.steps, self.seed)
            reference = place(layers, np.random.default_rng(self.seed).permutation(x)[:_REFERENCES])
        return FittedOneClass(reading, layers, reference, np.sort(_far(place(layers, held), reference)))

    def _check(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"method must be one of {list(METHODS)}, got method={self.method!r}")
        if not 0 < self.budget < 1:
            raise InputError(f"budget must lie between 0 and 1, got budget={self.budget!r}")
        validate_positive_integers(width=self.width, steps=self.steps)


def _far(z: Floats, reference: Floats) -> Floats:
    """Return the logarithm of the mean squared distance to the nearest references (q,).

    Not of the cosine, as in images: an encoder without biases turns a row that is twice as far into the same direction.
    """
    squared = (z**2).sum(axis=1)[:, None] + (reference**2).sum(axis=1) - 2 * z @ reference.T  # (q, r)
    near = min(_NEAREST, len(reference))
    return np.asarray(np.log(np.partition(squared, near - 1, axis=1)[:, :near].mean(axis=1).clip(1e-12)))
