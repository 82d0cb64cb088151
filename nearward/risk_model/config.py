"""The configuration of one fit: the parameters of ``RiskClassifier`` that a fit depends on, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.tabular.backbones.pretrained import Backbone
from nearward.tabular.data.schema import Schema
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Floats


@dataclass(frozen=True)
class FitConfig:
    """Parameters of a fit; see ``RiskClassifier``.

    Parameters
    ----------
    folds : int
    encoder : EncoderConfig
    backbone : "embedded", "tabpfn", "tabicl", Backbone or None
    members : int
    adapter : bool
    prevalence : float or None
    seed : int
    unlabelled : pl.DataFrame or None
        Conformed rows without an outcome, for the encoder's pretext.
    user_estimators : tuple of estimators
    trees : "lightgbm" or "lightgbm+catboost"
    repeats : int
        Fold draws of the base learners at most.
    """

    folds: int
    encoder: EncoderConfig
    backbone: str | Backbone | None
    members: int
    adapter: bool
    prevalence: float | None
    seed: int
    unlabelled: pl.DataFrame | None = None
    user_estimators: tuple[Any, ...] = ()
    trees: str = "lightgbm"
    repeats: int = 1

    def layout_and_unlabelled(self, schema: Schema, table_encoder: TableEncoder) -> tuple[FeatureLayout, Floats | None]:
        """Return the layout of the encoded columns, and the unlabelled rows (u, p) for a pretext."""
        block_of = {column.name: column.block for column in schema.columns if column.block is not None}
        rows = None if self.unlabelled is None else table_encoder.transform(self.unlabelled)
        return FeatureLayout.from_encoder(table_encoder, block_of), rows
