"""One-class classification: trained on rows without the event, it scores how far a row lies from them. A score, never a probability.

Shapes: n rows, q query rows, p encoded columns, e embedding width, r reference rows, c calibration rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from nearward.tabular.data.repeated_rows import warn_of_copies, warn_of_repeated_ids
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import refuse_sample_weight, seed_of, validate_groups, validate_integers, validate_target
from nearward.tabular.errors import InputError
from nearward.tabular.novelty.one_class_networks import Layers, embed, train_contrastive, train_deep_svdd
from nearward.tabular.preprocessing.frame_encoder import FrameEncoder
from nearward.tabular.typing import Floats, RandomState

METHODS = ("dsvdd", "droc")
_MIN_ROWS = 50  # without the event
_CALIBRATION = 5  # one patient in so many sets the threshold and is not trained on
_REFERENCES = 1000
_NEIGHBORS = 10  # nearest references in the score


@dataclass(frozen=True)
class FittedOneClass:
    """A trained network, and the reference points of its distances.

    Parameters
    ----------
    encoder : FrameEncoder
    layers : weight matrices of the bias-free network
    reference : (r, e)
        The centre alone; or embeddings of rows without the event.
    calibration_scores : (c,), ascending, of rows without the event that it was not trained on
    """

    encoder: FrameEncoder
    layers: Layers
    reference: Floats
    calibration_scores: Floats

    def scores(self, X: Any) -> Floats:
        """Return the log mean squared distance of q rows to the references (q,)."""
        return _log_distance(embed(self.layers, self.encoder.transform(X)), self.reference)


class OneClass(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """One-class novelty score: a base learner of the risk model, or a ranker where events are too few for supervised learning.

    Trained only on rows of patients who never had the event. ``RiskClassifier(experts=[OneClass()])`` adds it to the base learners: its
    score is cross-fitted and the risk stays calibrated. By itself it ranks; ``nearward.screen`` measures how well.
    It helps where events differ from all other rows. Most clinical events do not, and then a supervised model is better from a handful of
    events on (docs/guide/rare-outcomes.md has the figure).

    Parameters
    ----------
    method : "dsvdd" or "droc"
        "dsvdd": distance to the centre of a bias-free network (Deep SVDD). "droc": distance to the nearest rows without the event in a
        contrastive embedding, with masked blocks of columns as distribution augmentation.
    budget : float
        Share of rows without the event that ``predict`` alerts.
    width : int
        Width of the embedding.
    steps : int
        Training steps.
    random_state : int, numpy generator or None
        Seed of all randomness; None for another result at every fit.
    positive : value or list of values, optional
        The outcome value that is the event; by default the greater of the two. All other values are no event.
    schema : Schema, optional
        Kinds, and blocks for the masks; inferred by default.

    Attributes
    ----------
    classes_ : (2,), the outcome values in increasing order; ``[False, True]`` where ``positive`` names some of more than two
    event_ : the outcome value that is the event, or a tuple of several
    threshold_ : float, score above which ``predict`` alerts
    fitted_ : FittedOneClass

    References
    ----------
    Ruff et al.: Deep one-class classification (2018). Sohn, Li, Yoon, Jin, Pfister: Learning and evaluating representations for deep
    one-class classification (2021).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> training = pl.DataFrame(rng.normal(size=(300, 4)), schema=["a", "b", "c", "d"])
    >>> ranker = OneClass(steps=50).fit(training, None)
    >>> new = pl.DataFrame({"a": [0.0, 9.0], "b": [0.0, -9.0], "c": [0.0, 9.0], "d": [0.0, 9.0]})
    >>> ranker.rank(new)["alert"].to_list()
    [False, True]
    """

    classes_: NDArray[Any]
    event_: Any
    _event_index: int
    threshold_: float
    fitted_: FittedOneClass

    __metadata_request__fit: ClassVar = {"groups": True}  # where metadata routing is on

    def __init__(
        self,
        *,
        method: Literal["dsvdd", "droc"] = "dsvdd",
        budget: float = 0.05,
        width: int = 32,
        steps: int = 400,
        random_state: RandomState = 0,
        positive: Any = None,
        schema: Schema | None = None,
    ) -> None:
        self.method = method
        self.budget = budget
        self.width = width
        self.steps = steps
        self.random_state = random_state
        self.positive = positive
        self.schema = schema

    def fit(self, X: Any, y: Any = None, groups: Any = None, **fit_params: Any) -> OneClass:
        """Train on the rows of patients without the event.

        Parameters
        ----------
        X : frame of n rows
        y : (n,), optional
            The outcome; without it no row has the event.
        groups : (n,), optional
            Patients. All rows of a patient with an event are left out of training.

        Raises
        ------
        InputError
            Fewer than 50 rows remain, or invalid arguments.
        """
        refuse_sample_weight(self, fit_params)
        self._check()
        frame = to_frame(X)
        n_rows = frame.height
        if y is None:  # no row has the event, whatever its value
            target = validate_target(np.zeros(n_rows, dtype=int), min_classes=1)
        else:
            target = validate_target(y, n_rows, self.positive, min_classes=1)
        patient_ids = validate_groups(groups, n_rows)
        if groups is None:
            warn_of_repeated_ids(frame)
        warn_of_copies(frame, target.outcome, patient_ids)
        negative = ~np.isin(patient_ids, patient_ids[target.outcome == 1])
        if negative.sum() < _MIN_ROWS:
            raise InputError(
                f"refused: {negative.sum()} rows of patients without the event are too few for one-class; {_MIN_ROWS} are needed"
            )
        rows, patient_ids = frame.filter(negative), np.unique(patient_ids[negative], return_inverse=True)[1]
        seed = seed_of(self.random_state)
        calibration = np.random.default_rng(seed).permutation(patient_ids.max() + 1)[patient_ids] % _CALIBRATION == 0
        if calibration.all():
            raise InputError("refused: all rows without the event are of one patient; two are needed, one of them for the threshold")
        encoder = FrameEncoder.fit(rows.filter(~calibration), self.schema)
        x = encoder.transform(rows)
        fitted = self._train(encoder, x[~calibration], x[calibration], seed)
        threshold = float(np.quantile(fitted.calibration_scores, 1 - self.budget))
        classes, event_index = (target.classes, target.event_index) if len(target.classes) == 2 else (np.array([0, 1]), 1)
        state = {"classes_": classes, "event_": target.event, "_event_index": event_index, "n_features_in_": frame.width}
        self.__dict__.update(state, threshold_=threshold, fitted_=fitted)
        return self

    def decision_function(self, X: Any) -> Floats:
        """Return the score minus the threshold (q,): above 0 for alerted rows, higher for more unusual ones.

        As everywhere in scikit-learn it speaks for ``classes_[1]``: where ``positive`` names ``classes_[0]`` the sign is reversed.
        """
        check_is_fitted(self, "fitted_")
        above = self.fitted_.scores(X) - self.threshold_
        return above if self._event_index == 1 else -above

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the event's class for alerted rows (q,)."""
        return np.asarray(self.classes_[(self.decision_function(X) > 0).astype(int)])

    def rank(self, X: Any) -> pl.DataFrame:
        """Return ``row``, ``score``, ``share`` (of rows without the event with lower scores) and ``alert`` of q rows, in their order."""
        check_is_fitted(self, "fitted_")
        score, calibration = self.fitted_.scores(X), self.fitted_.calibration_scores
        share = np.searchsorted(calibration, score) / len(calibration)
        return pl.DataFrame({"row": np.arange(len(score)), "score": score, "share": share, "alert": score > self.threshold_})

    def _train(self, encoder: FrameEncoder, x: Floats, calibration: Floats, seed: int) -> FittedOneClass:
        if self.method == "dsvdd":
            layers, centre = train_deep_svdd(x, self.width, self.steps, seed)
            reference = centre[None]
        else:
            layers = train_contrastive(x, encoder.feature_blocks(x), self.width, self.steps, seed)
            reference = embed(layers, np.random.default_rng(seed).permutation(x)[:_REFERENCES])
        return FittedOneClass(encoder, layers, reference, np.sort(_log_distance(embed(layers, calibration), reference)))

    def _check(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"method must be one of {list(METHODS)}, got method={self.method!r}")
        if not 0 < self.budget < 1:
            raise InputError(f"budget must lie between 0 and 1, got budget={self.budget!r}")
        validate_integers(1, width=self.width, steps=self.steps)


def _log_distance(embedding: Floats, reference: Floats) -> Floats:
    """Return the log mean squared distance to the nearest references (q,).

    Unlike images, no cosine: a bias-free network maps a row and its double to the same direction.
    """
    sq_distance = (embedding**2).sum(axis=1)[:, None] + (reference**2).sum(axis=1) - 2 * embedding @ reference.T  # (q, r)
    k = min(_NEIGHBORS, len(reference))
    return np.asarray(np.log(np.partition(sq_distance, k - 1, axis=1)[:, :k].mean(axis=1).clip(1e-12)))
