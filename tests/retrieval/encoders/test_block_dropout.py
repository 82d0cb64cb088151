"""Block dropout: masked columns, and the gain of an encoder where the block is missing."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score

from nearward.retrieval.encoders.aware import EncoderConfig, embed
from nearward.retrieval.encoders.block_dropout import BlockDropout
from nearward.retrieval.encoders.training import train_encoder
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import InputError
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.preprocessing.table_encoder import TableEncoder


def ill(n: int, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Three labs predict the illness well, three questions nearly as well; six more columns are noise."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=n)
    outcome = (latent + 0.3 * rng.normal(size=n) > 1.0).astype(np.int64)
    labs = {f"lab_{j}": latent + 0.4 * rng.normal(size=n) for j in range(3)}
    questions = {f"q_{j}": latent + 1.0 * rng.normal(size=n) for j in range(3)}
    return pl.DataFrame({**labs, **questions, **{f"n{j}": rng.normal(size=n) for j in range(6)}}), outcome


BLOCKS = {f"{kind}_{j}": name for kind, name in (("lab", "labs"), ("q", "questions")) for j in range(3)}


@pytest.fixture(scope="module")
def cohort() -> tuple[TableEncoder, FeatureLayout, np.ndarray, np.ndarray]:
    frame, outcome = ill(1500, 0)
    holes = np.random.default_rng(5).random(1500) < 0.01  # so that the labs have missing flags
    frame = frame.with_columns(pl.when(~pl.Series(holes)).then(pl.col(f"lab_{j}")).alias(f"lab_{j}") for j in range(3))
    encoding = TableEncoder.fit(Schema.infer(frame), frame)
    return encoding, FeatureLayout.from_encoder(encoding, BLOCKS), encoding.transform(frame), outcome


def test_a_dropped_block_is_encoded_as_missing(cohort: tuple[TableEncoder, FeatureLayout, np.ndarray, np.ndarray]) -> None:
    encoding, layout, x, _ = cohort
    gone = ill(1500, 0)[0].with_columns(pl.lit(None, dtype=pl.Float64).alias(f"lab_{j}") for j in range(3))
    expected = torch.as_tensor(encoding.transform(gone), dtype=torch.float32)
    rows = torch.as_tensor(x, dtype=torch.float32)
    dropped = BlockDropout.of(layout, 0.5)(rows, torch.Generator().manual_seed(0))
    labs = torch.as_tensor(layout.block == 0)
    lost = (dropped[:, labs] == expected[:, labs]).all(dim=1)
    assert 0.4 < lost.float().mean() < 0.6
    assert torch.equal(dropped[~lost][:, labs], rows[~lost][:, labs])
    free = torch.as_tensor(layout.block == -1)
    assert torch.equal(dropped[:, free], rows[:, free])


def test_block_dropout_helps_where_the_block_is_missing(cohort: tuple[TableEncoder, FeatureLayout, np.ndarray, np.ndarray]) -> None:
    encoding, layout, x, outcome = cohort
    frame, truth = ill(2000, 1)
    whole = encoding.transform(frame)
    gone = frame.with_columns(pl.lit(None, dtype=pl.Float64).alias(f"lab_{j}") for j in range(3))
    without = encoding.transform(gone)
    head, near = {}, {}
    for rate in (0.0, 0.5):
        config = EncoderConfig(steps=200, hidden=48, axes=15, block_dropout=rate)
        encoder = train_encoder(x, outcome, np.arange(len(x)), config, 0, layout)
        stored = embed(encoder, x)[0]
        head[rate] = [roc_auc_score(truth, embed(encoder, rows)[1]) for rows in (whole, without)]
        nearest = [cdist(embed(encoder, rows)[0], stored).argsort(axis=1)[:, :50] for rows in (whole, without)]
        near[rate] = [roc_auc_score(truth, outcome[rows].mean(axis=1)) for rows in nearest]
    for auroc in (head, near):
        assert auroc[0.5][1] > auroc[0.0][1] + 0.02  # without the labs
        assert auroc[0.5][0] > auroc[0.0][0] - 0.02  # and it costs little where they are there


def test_off_is_the_same_network_whatever_the_blocks(cohort: tuple[TableEncoder, FeatureLayout, np.ndarray, np.ndarray]) -> None:
    encoding, layout, x, outcome = cohort
    config = EncoderConfig(steps=5, hidden=16, axes=3)
    one = embed(train_encoder(x, outcome, np.arange(len(x)), config, 0, FeatureLayout.from_encoder(encoding)), x)[0]
    other = embed(train_encoder(x, outcome, np.arange(len(x)), config, 0, layout), x)[0]
    assert np.array_equal(one, other)


def test_invalid_settings_are_rejected(cohort: tuple[TableEncoder, FeatureLayout, np.ndarray, np.ndarray]) -> None:
    encoding, _, x, outcome = cohort
    with pytest.raises(InputError, match=r"block_dropout must lie in \[0, 1\)"):
        EncoderConfig(block_dropout=1.0)
    with pytest.raises(InputError, match="there are none: declare them in the schema"):
        train_encoder(x, outcome, np.arange(len(x)), EncoderConfig(steps=1, block_dropout=0.3), 0, FeatureLayout.from_encoder(encoding))
