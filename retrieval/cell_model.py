"""CellModel: the distribution of each cell of a row given the row's other cells. Imputes missing values and scores surprising ones.

A model of its own from the masked-cell pretext of the encoder (``self_supervised.py``). It never reads an outcome.

Shapes: n stored rows, q query rows, p encoded columns, d number columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.special import log_ndtr, ndtri
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from nearward.retrieval.encoders.aware import AwareEncoder, EncoderConfig, network_from_state, network_state, seeded_init
from nearward.retrieval.encoders.self_supervised import BATCH, CellDecoder, masked_loss
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import refuse_sample_weight, seed_of, validate_groups
from nearward.tabular.errors import InputError
from nearward.tabular.persistence.estimators import SavableEstimator
from nearward.tabular.persistence.network_weights import check_weights
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.preprocessing.table_encoder import ENCODER_TYPES, UNSEEN, CategoryColumn, TableEncoder
from nearward.tabular.typing import Bools, Floats, Ints, RandomState

_CONFIG = EncoderConfig(hidden=128, dropout=0.0)
_STEPS = 1500
_FEWEST_ROWS = 50
_HOLDOUT_SHARE, _HOLDOUT_ROWS = 0.1, 20  # share of the rows, and their minimum, on which the predicted deviations are calibrated
_COVERAGE = np.array([0.68, 0.8, 0.9, 0.95])
_NORMAL_Z = -ndtri((1 - _COVERAGE) / 2)  # half-widths of a standard normal's central intervals of these coverages
_LEAST_PROBABILITY = 1e-12  # of a category's value; smaller ones are clipped here


@dataclass(frozen=True)
class _CellDistributions:
    """Predicted distribution of each cell of q rows given the row's other cells.

    Parameters
    ----------
    mean, deviation : (q, d), of the number columns
    log_probability : (q, values) for each one-hot category column
    """

    mean: Floats
    deviation: Floats
    log_probability: tuple[Floats, ...]


@dataclass(frozen=True)
class _CellNetwork:
    """Encoder and decoder that predict masked cells, and the fitted encoding of the columns."""

    columns: tuple[str, ...]  # of the fitted frame, in its order
    encoding: TableEncoder
    layout: FeatureLayout
    encoder: AwareEncoder
    decoder: CellDecoder

    def predict(self, x: Floats) -> _CellDistributions:
        """Mask one source column after the other of rows (q, p), and predict it from the rest."""
        layout, rows = self.layout, torch.as_tensor(x, dtype=torch.float32)
        absent = torch.as_tensor(layout.missing_value, dtype=torch.float32)
        mean, deviation = np.empty((len(x), len(layout.numeric))), np.empty((len(x), len(layout.numeric)))
        log_probability = []

        def hidden_without(source: int) -> Tensor:
            return self.encoder.hidden(torch.where(torch.as_tensor(layout.source == source), absent, rows))

        with torch.inference_mode():
            for j, (source, _) in enumerate(layout.numeric):
                means, log_deviations = self.decoder.moments(hidden_without(source))
                mean[:, j], deviation[:, j] = means[:, j].numpy(), log_deviations[:, j].exp().numpy()
            for j, (source, _, _) in enumerate(layout.one_hot):
                log_probability.append(self.decoder.log_probabilities(hidden_without(source))[j].double().numpy())
        return _CellDistributions(mean, deviation, tuple(log_probability))

    def z_scores(self, rows: pl.DataFrame, predicted: _CellDistributions) -> Floats:
        """Return each number's distance from its predicted mean, in predicted deviations: (q, d), NaN where missing."""
        out: Floats = (self.encoding.encode(rows).values - predicted.mean) / predicted.deviation
        return out

    def one_hot_columns(self) -> list[CategoryColumn]:
        """Return the category columns that are predicted."""
        return [column for column in self.encoding.categorical if column.n_one_hot]


class CellModel(TransformerMixin, SavableEstimator, BaseEstimator):  # type: ignore[misc]
    """An imputer, and a detector of values that do not fit the rest of their row.

    Categories of more than 16 values are read but not predicted: their missing values stay, their surprise is null.

    Parameters
    ----------
    random_state : int, numpy generator or None
        Seed of all randomness; None for another result at every fit.
    schema : Schema, optional
        Inferred by default; only features and experts are read.
    steps : int
        Training steps, 256 rows each.

    Attributes
    ----------
    schema_ : Schema
    n_features_in_ : int

    References
    ----------
    Vincent and others: Stacked denoising autoencoders (2010); the noise on masked cells and the surprise are ours.
    docs/guide/rare-outcomes.md has the imputation errors.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> height = rng.normal(170, 10, 400)
    >>> people = pl.DataFrame({"cm": height, "inch": height / 2.54})
    >>> model = CellModel(random_state=0, steps=300).fit(people)
    >>> slip = pl.DataFrame({"cm": [170.0, 170.0], "inch": [66.9, 96.9]})
    >>> surprise = model.surprise(slip)["inch"]
    >>> bool(surprise[0] < 1.5), bool(surprise[1] > 4)
    (True, True)
    """

    _fitted_attributes = ("_network",)
    _state_types = (*ENCODER_TYPES, EncoderConfig)

    def __init__(self, *, random_state: RandomState = 0, schema: Schema | None = None, steps: int = _STEPS) -> None:
        self.random_state = random_state
        self.schema = schema
        self.steps = steps

    def fit(self, X: Any, y: Any = None, groups: Any = None, **fit_params: Any) -> CellModel:
        """Learn from rows (n); an outcome is not read.

        Parameters
        ----------
        X : frame of n rows
        y : not read
        groups : (n,), optional
            Patients; the deviations are calibrated on patients that the network was not trained on.

        Raises
        ------
        InputError
            Fewer than 50 rows, too few patients for a holdout, or no column that can be predicted.
        """
        refuse_sample_weight(self, fit_params)
        frame = to_frame(X)
        if frame.height < _FEWEST_ROWS:
            raise InputError(f"X has {frame.height} rows; at least {_FEWEST_ROWS} are required")
        if self.steps < 1:
            raise InputError(f"steps must be at least 1, got steps={self.steps}")
        schema = self.schema or Schema.infer(frame)
        rows = schema.conform(frame)
        encoding = TableEncoder.fit(schema, rows)
        layout = FeatureLayout.from_encoder(encoding)
        if not layout.numeric and not layout.one_hot:
            raise InputError("no column can be predicted: there must be a number, or a category of at most 16 values")
        seed = seed_of(self.random_state)
        holdout = _holdout_rows(validate_groups(groups, frame.height), seed)
        x = encoding.transform(rows)
        network = _CellNetwork(tuple(frame.columns), encoding, layout, *_train(x[~holdout], layout, seed, self.steps))
        deviation_scale = np.ones(len(layout.numeric))
        z = np.abs(network.z_scores(rows.filter(holdout), network.predict(x[holdout])))
        enough = np.isfinite(z).sum(axis=0) > 10
        ratio = np.nanquantile(z[:, enough], _COVERAGE, axis=0) / _NORMAL_Z[:, None]  # (coverages, columns)
        deviation_scale[enough] = np.maximum(ratio.mean(axis=0), 1e-3)
        self.__dict__.update(schema_=schema, n_features_in_=frame.width, _network=network, _deviation_scale=deviation_scale)
        return self

    def transform(self, X: Any) -> pl.DataFrame:
        """Return rows with missing values imputed: numbers by their predicted mean (on the encoded scale), categories by the likeliest."""
        frame, rows, predicted = self._predict(X)
        network = self._network
        imputed = []
        for j, column in enumerate(network.encoding.numeric):
            series = rows.get_column(column.name)
            if series.null_count():
                value = column.centre + column.scale * np.sinh(predicted.mean[:, j])
                imputed.append(_fill_nulls(series, pl.Series(column.name, value.clip(column.knots[0], column.knots[-1]))))
        for category, log_probability in zip(network.one_hot_columns(), predicted.log_probability, strict=True):
            series = rows.get_column(category.name)
            if series.null_count():
                likeliest = log_probability[:, : category.n_one_hot].argmax(axis=1)
                imputed.append(_fill_nulls(series, pl.Series(category.name, category.categories).gather(likeliest)))
        return frame.with_columns(imputed)

    def surprise(self, X: Any) -> pl.DataFrame:
        """Score how unlikely each cell is given the rest of its row.

        Returns
        -------
        pl.DataFrame, q rows
            One column a feature: ``-log10`` of the two-sided tail probability (numbers) or of the value's probability (categories); 3 is
            one cell in a thousand. Null where the cell is missing or cannot be predicted.
        """
        _, rows, predicted = self._predict(X)
        encoding = self._network.encoding
        out = {name: pl.Series(name, [None] * rows.height, dtype=pl.Float64) for name in rows.columns}
        z = np.abs(self._network.z_scores(rows, predicted)) / self._deviation_scale
        for j, number in enumerate(encoding.numeric):
            tail = -(np.log(2) + log_ndtr(-z[:, j])) / np.log(10)
            out[number.name] = pl.Series(number.name, tail).fill_nan(None)
        codes = encoding.encode(rows).codes
        positions = {column.name: j for j, column in enumerate(encoding.categorical)}
        for category, log_probability in zip(self._network.one_hot_columns(), predicted.log_probability, strict=True):
            code = codes[:, positions[category.name]]
            values = log_probability.shape[1]
            pooled = np.where(code == UNSEEN, values, np.minimum(code, values - 1))
            padded = np.column_stack([log_probability, np.full(len(code), np.log(_LEAST_PROBABILITY))])  # last: an unseen value
            own = np.take_along_axis(padded, np.maximum(pooled, 0)[:, None], axis=1)[:, 0]
            surprise = -np.maximum(own, np.log(_LEAST_PROBABILITY)) / np.log(10)
            out[category.name] = pl.Series(category.name, np.where(code == -1, np.nan, surprise)).fill_nan(None)
        return pl.DataFrame(list(out.values()))

    def _predict(self, X: Any) -> tuple[pl.DataFrame, pl.DataFrame, _CellDistributions]:
        """Return the frame, its conformed rows and their predicted cells."""
        check_is_fitted(self, "_network")
        frame = to_frame(X, self._network.columns)
        rows = self.schema_.conform(frame)
        encoding = self._network.encoding
        return frame, rows, self._network.predict(encoding.transform(rows))

    def _get_state(self) -> dict[str, Any]:
        network = self._network
        return {
            "schema": self.schema_.to_json(),
            "columns": network.columns,
            "encoding": network.encoding,
            "deviation_scale": self._deviation_scale,
            "network": network_state(network.encoder),
            "decoder": {name: value.numpy() for name, value in network.decoder.state_dict().items()},
        }

    def _set_state(self, state: dict[str, Any]) -> None:
        layout = FeatureLayout.from_encoder(state["encoding"])
        encoder: Any = network_from_state(state["network"])
        with seeded_init(0):  # overwritten below
            check_weights(lambda: CellDecoder(encoder.config.hidden, layout), state["decoder"])
            decoder = CellDecoder(encoder.config.hidden, layout)
        decoder.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state["decoder"].items()})
        columns = tuple(state["columns"])
        network = _CellNetwork(columns, state["encoding"], layout, encoder.float(), decoder)  # trained in float32
        fitted = {"schema_": Schema.from_json(state["schema"]), "n_features_in_": len(columns), "_network": network}
        self.__dict__.update(fitted, _deviation_scale=state["deviation_scale"])


def _holdout_rows(patient_ids: Ints, seed: int) -> Bools:
    """Return the rows of random patients that are not trained on (n,): a tenth of the rows, at least 20."""
    order = np.random.default_rng(seed).permutation(patient_ids.max() + 1)
    rows = np.bincount(patient_ids)[order].cumsum()
    size = max(_HOLDOUT_ROWS, round(_HOLDOUT_SHARE * len(patient_ids)))
    holdout: Bools = np.isin(patient_ids, order[: np.searchsorted(rows, size) + 1])
    if holdout.all():
        raise InputError(f"groups has {len(order)} patient(s), too few for a holdout of {size} rows: give more patients")
    return holdout


def _train(x: Floats, layout: FeatureLayout, seed: int, steps: int) -> tuple[AwareEncoder, CellDecoder]:
    torch_rng, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    with seeded_init(seed):
        encoder = AwareEncoder(x.shape[1], _CONFIG)
        decoder = CellDecoder(_CONFIG.hidden, layout)
    features = torch.as_tensor(x, dtype=torch.float32)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for _ in range(steps):
        batch = features[torch.as_tensor(rng.integers(0, len(features), min(BATCH, len(features))))]
        loss = masked_loss(encoder, decoder, batch, layout, torch_rng)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
    return encoder, decoder


def _fill_nulls(series: pl.Series, values: pl.Series) -> pl.Series:
    return pl.select(pl.coalesce(pl.lit(series), pl.lit(values)).alias(series.name)).to_series()
