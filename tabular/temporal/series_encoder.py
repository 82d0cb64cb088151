"""Regular series as columns of a row: a risk score and an embedding by a small network.

The network overfits the outcomes of its own training rows. So ``fit_transform`` returns out-of-fold embeddings, rotated to the axes of the
network that embeds new rows (orthogonal Procrustes, fitted on the other folds).

Shapes: n rows, q new rows, c channels, t steps, e embedding width.

References
----------
Schönemann: A generalized solution of the orthogonal Procrustes problem (1966).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from nearward.tabular.data.conversion import dtype_name
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import refuse_sample_weight, seed_of, validate_fit_inputs, validate_integers
from nearward.tabular.errors import InputError, TooFewEvents, require_columns
from nearward.tabular.frame_output import FrameOutput, frame_output
from nearward.tabular.persistence.estimators import SavableEstimator
from nearward.tabular.typing import Floats, Ints, RandomState

_FOLDS = 3
_MIN_EVENTS = 20
_MAX_Z = 5.0  # standard deviations at which values are clipped


@dataclass(frozen=True)
class FittedSeriesEncoder:
    """The trained network, with the standardisation of its input.

    Parameters
    ----------
    columns : names of the list columns, the channels
    steps : int, t
    mean, std : (c,), of the measured values
    width : int, e
    weights : the network's state dict, as arrays
    """

    columns: tuple[str, ...]
    steps: int
    mean: Floats
    std: Floats
    width: int
    weights: dict[str, NDArray[np.float32]]

    def embed(self, frame: pl.DataFrame) -> tuple[Floats, Floats]:
        """Return embeddings (q, e) and log-odds (q,) of the series of q rows."""
        values = _read_series(frame, self.columns)
        if not len(values):
            return np.empty((0, self.width)), np.empty(0)
        if values.shape[2] != self.steps:
            raise InputError(f"the series have {values.shape[2]} steps, and the encoder was trained on {self.steps}")
        return self.embed_inputs(_network_inputs(values, self.mean, self.std))

    def embed_inputs(self, x: Floats) -> tuple[Floats, Floats]:
        """Return embeddings (n, e) and log-odds (n,) of network inputs (n, 2c, t)."""
        from nearward.tabular.temporal.series_network import embed_series, from_state

        return embed_series(from_state(self.weights, len(self.columns), self.width), x)


class SeriesEncoder(FrameOutput, TransformerMixin, SavableEstimator, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[misc, call-arg]
    """Replace columns of series by a risk score and an embedding, which any model can read.

    Parameters
    ----------
    columns : names of list columns, optional
        Each row has the same number of steps, the oldest first, null where nothing was measured (see ``regular_series``). By default
        all list columns.
    width : int
        Width of the embedding.
    random_state : int, numpy generator or None
        Seed of all randomness; None for another result at every fit.
    positive : value or list of values, optional
        The outcome value that is the event; by default the greater of the two. All other values are no event.

    Attributes
    ----------
    columns_ : tuple of str
    steps_ : int
    fitted_ : FittedSeriesEncoder

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> pulse = rng.normal(80, 5, (400, 12))
    >>> ill = np.arange(400) % 4 == 0
    >>> stays = pl.DataFrame({"age": rng.normal(60, 9, 400), "pulse": pulse + ill[:, None] * np.linspace(0, 15, 12)})
    >>> SeriesEncoder(width=2).fit_transform(stays, ill).columns
    ['age', 'series: score', 'series: 1', 'series: 2']
    """

    _fitted_attributes = ("fitted_", "columns_", "steps_")
    _state_types = (FittedSeriesEncoder,)

    columns_: tuple[str, ...]
    steps_: int
    fitted_: FittedSeriesEncoder

    __metadata_request__fit: ClassVar = {"groups": True}  # where metadata routing is on

    def __init__(
        self, columns: Sequence[str] | None = None, *, width: int = 6, random_state: RandomState = 0, positive: Any = None
    ) -> None:
        self.columns = columns
        self.width = width
        self.random_state = random_state
        self.positive = positive

    def fit(self, X: Any, y: Any, groups: Any = None, **fit_params: Any) -> SeriesEncoder:
        """Train on all rows. For a model that is fitted on the same rows next, use ``fit_transform``.

        Parameters
        ----------
        X : frame of n rows
        y : (n,), two values
        groups : (n,), optional, patients

        Raises
        ------
        InputError, MissingColumns
            No list column, lists of different lengths, a channel without measurements.
        TooFewEvents
            Fewer than 20 rows with, or without, the event.
        """
        refuse_sample_weight(self, fit_params)
        self._fit(X, y, groups, seed_of(self.random_state))
        return self

    @frame_output
    def fit_transform(self, X: Any, y: Any, groups: Any = None) -> pl.DataFrame:
        """Train, and return the training rows with out-of-fold scores and embeddings; parameters as ``fit``."""
        from nearward.tabular.temporal.series_network import embed_series, train_network

        seed = seed_of(self.random_state)
        frame, x, outcome, patient_ids = self._fit(X, y, groups, seed)
        fold = split_patients(outcome, patient_ids, _FOLDS, seed)
        reference = self.fitted_.embed_inputs(x)[0]
        embedding, score = np.empty_like(reference), np.empty(len(x))
        for f in range(int(fold.max()) + 1):
            train, test = fold != f, fold == f
            network = train_network(x[train], outcome[train], self.width, seed + 1 + f)
            train_embedding, (embedding[test], score[test]) = embed_series(network, x[train])[0], embed_series(network, x[test])
            embedding[test] = _procrustes(embedding[test], train_embedding, reference[train])
        return self._with_embedding(frame, embedding, score)

    @frame_output
    def transform(self, X: Any) -> pl.DataFrame:
        """Return a frame of q rows with the series replaced by ``series: score`` (log-odds) and ``series: 1`` to ``series: e``."""
        check_is_fitted(self, "fitted_")
        frame = to_frame(X)
        return self._with_embedding(frame, *self.fitted_.embed(frame))

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the columns that replace the series."""
        return np.array(["series: score", *(f"series: {j + 1}" for j in range(self.width))], dtype=object)

    def _fit(self, X: Any, y: Any, groups: Any, seed: int) -> tuple[pl.DataFrame, Floats, Ints, Ints]:
        """Train, and return the frame, network inputs (n, 2c, t), outcome (n,) and patient ids (n,)."""
        from nearward.tabular.temporal.series_network import train_network

        validate_integers(1, width=self.width)
        frame, target, patient_ids = validate_fit_inputs(X, y, groups, self.positive)
        outcome = target.outcome
        fewest = min(target.events, len(outcome) - target.events)
        if fewest < _MIN_EVENTS:
            raise TooFewEvents(fewest, _MIN_EVENTS, "train an encoder of series")
        lists = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.List | pl.Array)]
        columns = tuple(lists if self.columns is None else self.columns)
        if not columns:
            raise InputError("no column has lists: make a regular grid of the measurements first (nearward.regular_series)")
        values = _read_series(frame, columns)
        count = np.isfinite(values).sum(axis=(0, 2))  # (c,)
        empty = [name for name, measured in zip(columns, count, strict=True) if not measured]
        if empty:
            raise InputError(f"columns {empty} have no measurement at all: leave them out")
        mean, std = np.nanmean(values, axis=(0, 2)), np.nanstd(values, axis=(0, 2))
        std = np.where(std > 0, std, 1.0)
        x = _network_inputs(values, mean, std)
        network = train_network(x, outcome, self.width, seed)
        weights = {name: value.numpy() for name, value in network.state_dict().items()}
        fitted = FittedSeriesEncoder(columns, values.shape[2], mean, std, int(self.width), weights)
        self.__dict__.update(columns_=columns, steps_=values.shape[2], fitted_=fitted)
        return frame, x, outcome, patient_ids

    def _with_embedding(self, frame: pl.DataFrame, embedding: Floats, score: Floats) -> pl.DataFrame:
        names = self.get_feature_names_out().tolist()
        conflicts = sorted(set(names) & set(frame.columns))
        if conflicts:
            raise InputError(f"the frame has columns that would be overwritten: {conflicts}. Rename them")
        outputs = np.column_stack([score, embedding])
        return frame.drop(self.columns_).with_columns(pl.Series(name, outputs[:, j]) for j, name in enumerate(names))


def _read_series(frame: pl.DataFrame, columns: Sequence[str]) -> Floats:
    """Read list columns (n, c, t), NaN where nothing was measured; (0, c, 0) for a frame without rows."""
    require_columns(columns, frame.columns)
    if not frame.height:
        return np.empty((0, len(columns), 0))
    channels = []
    for name in columns:
        column = frame.get_column(name)
        if not isinstance(column.dtype, pl.List | pl.Array):
            raise InputError(f"column {name!r} must have lists, got {dtype_name(column.dtype)}")
        inner = column.dtype.inner
        if not (inner.is_numeric() or inner in (pl.Boolean, pl.Null)):
            raise InputError(f"the lists of column {name!r} hold {dtype_name(inner)}, not numbers")
        lists = column.arr.to_list() if isinstance(column.dtype, pl.Array) else column
        length = lists.list.len()
        if length.null_count() or length.n_unique() != 1 or not length[0]:
            raise InputError(f"the lists of column {name!r} differ in length, or are missing: every row needs the same number of steps")
        channels.append(lists.explode().cast(pl.Float64).to_numpy().reshape(frame.height, -1))
    if len({channel.shape for channel in channels}) > 1:
        raise InputError(f"columns {list(columns)} have series of different lengths: use one grid for all")
    return np.stack(channels, axis=1)


def _network_inputs(values: Floats, mean: Floats, std: Floats) -> Floats:
    """Return standardised values, 0 where nothing was measured, and indicators of measured steps: (n, 2c, t)."""
    measured = np.isfinite(values)
    z = np.where(measured, (np.where(measured, values, 0.0) - mean[:, None]) / std[:, None], 0.0)
    return np.concatenate([z.clip(-_MAX_Z, _MAX_Z), measured], axis=1)


def _procrustes(embedding: Floats, source: Floats, target: Floats) -> Floats:
    """Rotate, scale and shift an embedding (m, e) as ``source`` best matches ``target``, (n, e), two embeddings of the same rows."""
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    rotation, scale = orthogonal_procrustes(source - source_mean, target - target_mean)
    scale /= max(float(((source - source_mean) ** 2).sum()), 1e-12)
    return np.asarray(scale * (embedding - source_mean) @ rotation + target_mean)
