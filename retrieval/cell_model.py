"""CellModel: what each cell of a row would be, told by the row's other cells. Fills gaps, and says which cells surprise.

The masked-cell pretext of the encoder (``pretext.py``) as a model of its own. It never reads an outcome.

Letters: n stored rows, q query rows, p encoded columns, d number columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtri
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from nearward.retrieval.encoders.aware import AwareEncoder, EncoderConfig, first_weights, network_from_state, network_state
from nearward.retrieval.encoders.self_supervised import BATCH, CellDecoder, masked_loss
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import read_patients
from nearward.tabular.errors import InputError
from nearward.tabular.persistence.estimators import read_estimator, write_estimator
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.preprocessing.table_encoder import UNSEEN, CategoryColumn, NumberColumn, TableEncoder
from nearward.tabular.typing import Floats, Ints

_SIZES = EncoderConfig(hidden=128, dropout=0.0)
_STEPS = 1500
_FEWEST_ROWS = 50
_LEFT_OUT = 0.1  # of the rows: they say how far the claimed spread is from the real one
_SHARES = np.array([0.68, 0.8, 0.9, 0.95])
_USUAL = -ndtri((1 - _SHARES) / 2)  # standard deviations that hold these shares of a normal's values
_LEAST = 1e-12  # share of a level: beyond, rarer is not rarer


@dataclass(frozen=True)
class _Told:
    """What the model says of every cell of q rows, each cell hidden: numbers' means and deviations (q, d), levels' log-shares."""

    mean: Floats
    deviation: Floats
    shares: tuple[Floats, ...]


class CellModel(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A model of cells: an imputer, and a search for cells that do not go with the rest of their row.

    Categories of more than 16 levels are read but not told: their gaps stay, their surprise is missing.

    Parameters
    ----------
    seed : int
    schema : Schema, optional
        Inferred by default; only features and experts are read.
    steps : int
        Of the training, 256 rows each.

    Attributes
    ----------
    schema_ : Schema
    n_features_in_ : int

    References
    ----------
    Vincent and others: Stacked denoising autoencoders (2010); the noise on hidden cells and the surprise are ours. docs/guide/rare-outcomes.md says how
    well it fills.

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> height = draw.normal(170, 10, 400)
    >>> people = pl.DataFrame({"cm": height, "inch": height / 2.54})
    >>> model = CellModel(seed=0, steps=300).fit(people)
    >>> slip = pl.DataFrame({"cm": [170.0, 170.0], "inch": [66.9, 96.9]})
    >>> surprise = model.surprise(slip)["inch"]
    >>> bool(surprise[0] < 1.5), bool(surprise[1] > 4)
    (True, True)
    """

    def __init__(self, *, seed: int = 0, schema: Schema | None = None, steps: int = _STEPS) -> None:
        self.seed = seed
        self.schema = schema
        self.steps = steps

    def fit(self, X: Any, y: Any = None, groups: Any = None) -> CellModel:
        """Learn from rows (n); an outcome is not read.

        Parameters
        ----------
        X : frame of n rows
        y : not read
        groups : (n,), optional
            Patients: whoever teaches does not say how far the model is off.

        Raises
        ------
        InputError
            Fewer than 50 rows, too few patients to leave some out, or no column that can be told.
        """
        frame = to_frame(X)
        if frame.height < _FEWEST_ROWS:
            raise InputError(f"{frame.height} rows are too few to learn what goes with what: at least {_FEWEST_ROWS} are needed")
        if self.steps < 1:
            raise InputError(f"steps must be at least 1, got steps={self.steps}")
        self.schema_ = self.schema or Schema.infer(frame)
        rows = self.schema_.conform(frame)
        self._columns, self.n_features_in_ = frame.columns, frame.width
        self._encoding = TableEncoder.fit(self.schema_, rows)
        self._layout = FeatureLayout.of(self._encoding)
        if not self._layout.value and not self._layout.levels:
            raise InputError("no column can be told: there must be a number, or a category of at most 16 levels")
        held = self._left_out(read_patients(groups, frame.height))
        x = self._encoding.dense(self._encoding.numbers(rows))
        self._train(x[~held])
        self._stretch = np.ones(len(self._layout.value))
        away = np.abs(self._away(rows.filter(held), self._told(x[held])))
        known = np.isfinite(away).sum(axis=0) > 10
        spread = np.nanquantile(away[:, known], _SHARES, axis=0) / _USUAL[:, None]  # (shares, columns)
        self._stretch[known] = np.maximum(spread.mean(axis=0), 1e-3)
        return self

    def transform(self, X: Any) -> pl.DataFrame:
        """Return rows with their gaps filled: numbers by what is expected (on the scale that is read), categories by the likeliest."""
        frame, rows, told = self._ask(X)
        filled = []
        for j, column in enumerate(self._encoding.number):
            series = rows.get_column(column.name)
            if series.null_count():
                value = column.centre + column.scale * np.sinh(told.mean[:, j])
                filled.append(_filled(series, pl.Series(column.name, value.clip(column.knots[0], column.knots[-1]))))
        for column, share in zip(self._listed(), told.shares, strict=True):
            series = rows.get_column(column.name)
            if series.null_count():
                best = share[:, : column.one_hot].argmax(axis=1)
                filled.append(_filled(series, pl.Series(column.name, column.levels).gather(best)))
        return frame.with_columns(filled)

    def surprise(self, X: Any) -> pl.DataFrame:
        """Say how unusual each cell is beside the rest of its row.

        Returns
        -------
        pl.DataFrame, q rows
            One column a feature: ``-log10`` of the chance of a value so far out (numbers), or of the level (categories); 3 is one cell in a
            thousand. Null where the cell is missing or cannot be told.
        """
        _, rows, told = self._ask(X)
        out = {name: pl.Series(name, [None] * rows.height, dtype=pl.Float64) for name in rows.columns}
        away = np.abs(self._away(rows, told)) / self._stretch
        for j, number in enumerate(self._encoding.number):
            tail = -(np.log(2) + log_ndtr(-away[:, j])) / np.log(10)
            out[number.name] = pl.Series(number.name, tail).fill_nan(None)
        code = self._encoding.numbers(rows).code
        places = {column.name: j for j, column in enumerate(self._encoding.category)}
        for column, share in zip(self._listed(), told.shares, strict=True):
            level = code[:, places[column.name]]
            pooled = np.where(level == UNSEEN, share.shape[1], np.minimum(level, share.shape[1] - 1))
            padded = np.column_stack([share, np.full(len(share), np.log(_LEAST))])  # a level that no stored row has
            told_share = np.take_along_axis(padded, np.maximum(pooled, 0)[:, None], axis=1)[:, 0]
            rare = -np.maximum(told_share, np.log(_LEAST)) / np.log(10)
            out[column.name] = pl.Series(column.name, np.where(level == -1, np.nan, rare)).fill_nan(None)
        return pl.DataFrame(list(out.values()))

    # ---- on disk -----------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write the model into a folder, made where it is missing; what was there before stays until all is written.

        Raises
        ------
        InputError
            The folder holds something else.
        """
        check_is_fitted(self, "_network")
        learned = {
            "schema": self.schema_.to_json(),
            "columns": self.n_features_in_,
            "names": self._columns,
            "encoding": self._encoding,
            "stretch": self._stretch,
            "network": network_state(self._network),
            "decoder": {name: value.numpy() for name, value in self._decoder.state_dict().items()},
        }
        write_estimator(folder, "CellModel", self.get_params(deep=False), learned)

    @classmethod
    def load(cls, folder: str | Path) -> CellModel:
        """Read what ``save`` wrote, every hash checked first.

        Raises
        ------
        ArtefactError
            Not a model of cells; corrupt; saved by a later version.
        """
        settings, learned = read_estimator(folder, "CellModel", [TableEncoder, NumberColumn, CategoryColumn, EncoderConfig])
        model = cls(**settings)
        model.schema_, model.n_features_in_ = Schema.from_json(learned["schema"]), learned["columns"]
        model._columns = list(learned.get("names", ())) or [column.name for column in model.schema_.columns]
        model._encoding, model._stretch = learned["encoding"], learned["stretch"]
        model._layout = FeatureLayout.of(model._encoding)
        network: Any = network_from_state(learned["network"])
        with first_weights(0):  # drawn and written over
            model._decoder = CellDecoder(network.config.hidden, model._layout)
        model._network = network.float()  # as it was trained: singles, from doubles of singles
        model._decoder.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in learned["decoder"].items()})
        return model

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _left_out(self, group: Ints) -> NDArray[np.bool_]:
        """Return the rows of patients (n,) who do not teach: a tenth of the rows, 20 at the least."""
        order = np.random.default_rng(self.seed).permutation(group.max() + 1)
        rows = np.bincount(group)[order].cumsum()
        held = np.isin(group, order[: np.searchsorted(rows, max(20, round(_LEFT_OUT * len(group)))) + 1])
        if held.all():
            raise InputError(f"the rows are of {len(order)} patient(s), too few to leave some out")
        return held

    def _ask(self, X: Any) -> tuple[pl.DataFrame, pl.DataFrame, _Told]:
        check_is_fitted(self, "_network")
        frame = to_frame(X, self._columns)
        rows = self.schema_.conform(frame)
        return frame, rows, self._told(self._encoding.dense(self._encoding.numbers(rows)))

    def _listed(self) -> list[Any]:
        return [column for column in self._encoding.category if column.one_hot]

    def _train(self, x: Floats) -> None:
        rng, draw = torch.Generator().manual_seed(self.seed), np.random.default_rng(self.seed)
        with first_weights(self.seed):
            self._network = AwareEncoder(x.shape[1], _SIZES)
            self._decoder = CellDecoder(_SIZES.hidden, self._layout)
        rows = torch.as_tensor(x, dtype=torch.float32)
        learned = [*self._network.parameters(), *self._decoder.parameters()]
        optimiser = torch.optim.AdamW(learned, lr=2e-3, weight_decay=1e-2)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=self.steps)
        for _ in range(self.steps):
            batch = rows[torch.as_tensor(draw.integers(0, len(rows), min(BATCH, len(rows))))]
            loss = masked_loss(self._network, self._decoder, batch, self._layout, rng)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(learned, 1.0)
            optimiser.step()
            rate.step()

    def _told(self, x: Floats) -> _Told:
        """Hide one source column after the other, and collect what is said of it."""
        layout, rows = self._layout, torch.as_tensor(x, dtype=torch.float32)
        absent = torch.as_tensor(layout.absent, dtype=torch.float32)
        mean, deviation = np.empty((len(x), len(layout.value))), np.empty((len(x), len(layout.value)))
        shares = []

        def without(source: int) -> Tensor:
            return self._network.hidden(torch.where(torch.as_tensor(layout.source == source), absent, rows))

        with torch.inference_mode():
            for j, (source, _) in enumerate(layout.value):
                centre, spread = self._decoder.spread(without(source))
                mean[:, j], deviation[:, j] = centre[:, j].numpy(), spread[:, j].exp().numpy()
            for j, (source, _, _) in enumerate(layout.levels):
                shares.append(self._decoder.shares(without(source))[j].double().numpy())
        return _Told(mean, deviation, tuple(shares))

    def _away(self, rows: pl.DataFrame, told: _Told) -> Floats:
        """Return how many claimed standard deviations each number is from what was expected: (q, d), NaN where missing."""
        out: Floats = (self._encoding.numbers(rows).value - told.mean) / told.deviation
        return out


def _filled(series: pl.Series, guess: pl.Series) -> pl.Series:
    return pl.select(pl.coalesce(pl.lit(series), pl.lit(guess)).alias(series.name)).to_series()
