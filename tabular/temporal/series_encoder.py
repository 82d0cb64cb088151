"""Regular series as columns of a row: what a network saw in the course of the vitals, beside what was measured last.

A network trained on a row's outcome says too much about it. So ``fit_transform`` gives each training row the embedding of a network that
never saw its patient, turned onto the axes of the network that new rows will meet (orthogonal Procrustes, fitted on other rows).

Letters: n rows, c channels, t steps, e embedding width.

References
----------
Schönemann: A generalized solution of the orthogonal Procrustes problem (1966).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import validate_fit_inputs
from nearward.tabular.errors import InputError, MissingColumns, TooFewEvents
from nearward.tabular.persistence.estimators import read_estimator, write_estimator
from nearward.tabular.typing import Floats, Ints

_FOLDS = 3
_FEWEST_EVENTS = 20
_FURTHEST = 5.0  # standard deviations


class SeriesEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Replace columns of series by a few numbers each model can read: a score and an embedding.

    Parameters
    ----------
    columns : names of list columns, optional
        Each row holds the same number of steps, the oldest first, null where nothing was measured (see ``regular_series``). By default
        all list columns.
    width : int
        Numbers of the embedding.
    seed : int
    positive : value, optional
        The outcome value that is the event; by default the greater of the two.

    Attributes
    ----------
    columns_ : tuple of str
    steps_ : int

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> pulse = draw.normal(80, 5, (400, 12))
    >>> ill = np.arange(400) % 4 == 0
    >>> stays = pl.DataFrame({"age": draw.normal(60, 9, 400), "pulse": pulse + ill[:, None] * np.linspace(0, 15, 12)})
    >>> SeriesEncoder(width=2).fit_transform(stays, ill).columns
    ['age', 'series: score', 'series: 1', 'series: 2']
    """

    def __init__(self, columns: Sequence[str] | None = None, *, width: int = 6, seed: int = 0, positive: Any = None) -> None:
        self.columns = columns
        self.width = width
        self.seed = seed
        self.positive = positive

    def fit(self, X: Any, y: Any, groups: Any = None) -> SeriesEncoder:
        """Train on all rows; for a model that is fitted on the same rows next, use ``fit_transform``.

        Parameters
        ----------
        X : frame of n rows
        y : (n,), two values
        groups : (n,), optional, patients

        Raises
        ------
        InputError, MissingColumns
            No list column, lists of different lengths, a channel that was never measured.
        TooFewEvents
            Fewer than 20 events.
        """
        self._train(X, y, groups)
        return self

    def fit_transform(self, X: Any, y: Any, groups: Any = None) -> pl.DataFrame:
        """Train, and return the training rows as networks see them that never saw the row's patient; arguments as ``fit``."""
        from nearward.tabular.temporal.series_network import embed_series, train_network

        frame, x, outcome, group = self._train(X, y, groups)
        fold = split_patients(outcome, group, _FOLDS, self.seed)
        target = embed_series(self._network, x)[0]
        embedding, score = np.empty_like(target), np.empty(len(x))
        for f in range(int(fold.max()) + 1):
            left = fold == f
            network = train_network(x[~left], outcome[~left], self.width, self.seed + 1 + f)
            seen, (embedding[left], score[left]) = embed_series(network, x[~left])[0], embed_series(network, x[left])
            embedding[left] = _turned(embedding[left], seen, target[~left])
        return self._joined(frame, embedding, score)

    def transform(self, X: Any) -> pl.DataFrame:
        """Return a frame of q rows with the series replaced by ``series: score`` (log-odds) and ``series: 1`` to ``series: e``."""
        from nearward.tabular.temporal.series_network import embed_series

        check_is_fitted(self, "_network")
        frame = to_frame(X)
        x = self._read(frame)
        if not len(x):
            return self._joined(frame, np.empty((0, self.width)), np.empty(0))
        return self._joined(frame, *embed_series(self._network, x))

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the columns that stand for the series."""
        return np.array(["series: score", *(f"series: {j + 1}" for j in range(self.width))], dtype=object)

    def save(self, folder: str | Path) -> None:
        """Write the encoder into a folder, made where it is missing; what was there before stays until all is written.

        Raises
        ------
        InputError
            The folder holds something else.
        """
        check_is_fitted(self, "_network")
        weights = {name: value.numpy() for name, value in self._network.state_dict().items()}
        learned = {"columns": self.columns_, "steps": self.steps_, "centre": self._centre, "scale": self._scale, "weights": weights}
        write_estimator(folder, "SeriesEncoder", self.get_params(deep=False), learned)

    @classmethod
    def load(cls, folder: str | Path) -> SeriesEncoder:
        """Read what ``save`` wrote, every hash checked first.

        Raises
        ------
        ArtefactError
            Not an encoder of series; corrupt; saved by a later version.
        """
        from nearward.tabular.temporal.series_network import restored

        settings, learned = read_estimator(folder, "SeriesEncoder")
        encoder = cls(**settings)
        encoder.columns_, encoder.steps_ = learned["columns"], learned["steps"]
        encoder._centre, encoder._scale = learned["centre"], learned["scale"]
        encoder._network = restored(learned["weights"], len(encoder.columns_), encoder.width)
        return encoder

    def _train(self, X: Any, y: Any, groups: Any) -> tuple[pl.DataFrame, Floats, Ints, Ints]:
        from nearward.tabular.temporal.series_network import train_network

        if not isinstance(self.width, int) or self.width < 1:
            raise InputError(f"width must be a whole number from 1, got width={self.width!r}")
        frame, target, group = validate_fit_inputs(X, y, groups, self.positive)
        event = target.outcome
        if min(event.sum(), len(event) - event.sum()) < _FEWEST_EVENTS:
            raise TooFewEvents(int(min(event.sum(), len(event) - event.sum())), _FEWEST_EVENTS, "train an encoder of series")
        lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List | pl.Array)]
        self.columns_ = tuple(lists if self.columns is None else self.columns)
        if not self.columns_:
            raise InputError("no column holds lists: lay the measurements on a grid first (nearward.regular_series)")
        values = self._values(frame)
        self.steps_ = values.shape[2]
        counted = np.isfinite(values).sum(axis=(0, 2))  # (c,)
        never = [name for name, count in zip(self.columns_, counted, strict=True) if not count]
        if never:
            raise InputError(f"columns {never} hold no measurement at all: leave them out")
        self._centre = np.nanmean(values, axis=(0, 2))[None, :, None]
        spread = np.nanstd(values, axis=(0, 2))[None, :, None]
        self._scale = np.where(spread > 0, spread, 1.0)
        x = self._scaled(values)
        self._network = train_network(x, event, self.width, self.seed)
        return frame, x, event, group

    def _read(self, frame: pl.DataFrame) -> Floats:
        values = self._values(frame)
        if values.shape[2] != self.steps_:
            raise InputError(f"the series have {values.shape[2]} steps, and the encoder was trained on {self.steps_}")
        return self._scaled(values)

    def _scaled(self, values: Floats) -> Floats:
        """Standardised values with 0 where nothing was measured, and whether it was: (n, 2c, t)."""
        there = np.isfinite(values)
        z = np.where(there, (np.where(there, values, 0.0) - self._centre) / self._scale, 0.0)
        return np.concatenate([z.clip(-_FURTHEST, _FURTHEST), there], axis=1)

    def _values(self, frame: pl.DataFrame) -> Floats:
        """Read the list columns: (n, c, t), NaN where nothing was measured."""
        missing = [name for name in self.columns_ if name not in frame.columns]
        if missing:
            raise MissingColumns(missing, frame.columns)
        if not frame.height:
            return np.empty((0, len(self.columns_), self.steps_))
        channels = []
        for name in self.columns_:
            column = frame.get_column(name)
            if not isinstance(column.dtype, pl.List | pl.Array):
                raise InputError(f"column {name!r} holds {column.dtype}, no lists")
            inner = column.dtype.inner
            if not (inner.is_numeric() or inner in (pl.Boolean, pl.Null)):
                raise InputError(f"the lists of column {name!r} hold {inner}, not numbers")
            lists = column.arr.to_list() if isinstance(column.dtype, pl.Array) else column
            length = lists.list.len()
            if length.null_count() or length.n_unique() != 1 or not length[0]:
                raise InputError(f"the lists of column {name!r} differ in length, or are missing: every row needs the same number of steps")
            channels.append(lists.explode().cast(pl.Float64).to_numpy().reshape(frame.height, -1))
        if len({channel.shape for channel in channels}) > 1:
            raise InputError(f"columns {list(self.columns_)} hold series of different lengths: lay them on one grid")
        return np.stack(channels, axis=1)

    def _joined(self, frame: pl.DataFrame, embedding: Floats, score: Floats) -> pl.DataFrame:
        made = np.column_stack([score, embedding])
        names = self.get_feature_names_out().tolist()
        taken = sorted(set(names) & set(frame.columns))
        if taken:
            raise InputError(f"the frame has columns that would be written over: {taken}. Rename them")
        return frame.drop(self.columns_).with_columns(pl.Series(name, made[:, j]) for j, name in enumerate(names))


def _turned(embedding: Floats, seen: Floats, target: Floats) -> Floats:
    """Turn an embedding (m, e) onto other axes by what two networks made of the same rows: ``seen`` and ``target``, (n, e)."""
    centre, middle = seen.mean(axis=0), target.mean(axis=0)
    left, size, right = np.linalg.svd((seen - centre).T @ (target - middle))
    stretch = size.sum() / max(float(((seen - centre) ** 2).sum()), 1e-12)
    return np.asarray(stretch * (embedding - centre) @ (left @ right) + middle)
