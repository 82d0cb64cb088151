"""Block dropout: what is taken, how often, and that an encoder trained with it does better where the block is missing."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score

from nearward.retrieval.encoders.aware import EncoderConfig, embed, train_encoder
from nearward.retrieval.encoders.block_dropout import BlockDropout, risen
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import InputError
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.preprocessing.table_encoder import TableEncoder


def ill(n: int, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    """An illness that three labs tell well, and three questions nearly as well; six more columns say nothing."""
    draw = np.random.default_rng(seed)
    latent = draw.normal(size=n)
    outcome = (latent + 0.3 * draw.normal(size=n) > 1.0).astype(np.int64)
    labs = {f"lab_{j}": latent + 0.4 * draw.normal(size=n) for j in range(3)}
    asked = {f"q_{j}": latent + 1.0 * draw.normal(size=n) for j in range(3)}
    return pl.DataFrame({**labs, **asked, **{f"n{j}": draw.normal(size=n) for j in range(6)}}), outcome


BLOCKS = {f"{kind}_{j}": name for kind, name in (("lab", "labs"), ("q", "questions")) for j in range(3)}


@pytest.fixture(scope="module")
def cohort() -> tuple[TableEncoder, FeatureLayout, np.ndarray, np.ndarray]:
    frame, outcome = ill(1500, 0)
    holes = np.random.default_rng(5).random(1500) < 0.01  # so that the labs have missing flags
    frame = frame.with_columns(pl.when(~pl.Series(holes)).then(pl.col(f"lab_{j}")).alias(f"lab_{j}") for j in range(3))
    encoding = TableEncoder.fit(Schema.infer(frame), frame)
    return encoding, FeatureLayout.of(encoding, BLOCKS), encoding.dense(encoding.numbers(frame)), outcome


def test_a_lost_block_reads_as_if_it_had_been_missing(cohort: tuple[TableEncoder, FeatureLayout, np.ndarray, np.ndarray]) -> None:
    encoding, layout, x, _ = cohort
    gone = ill(1500, 0)[0].with_columns(pl.lit(None, dtype=pl.Float64).alias(f"lab_{j}") for j in range(3))
    expected = torch.as_tensor(encoding.dense(encoding.numbers(gone)), dtype=torch.float32)
    rows = torch.as_tensor(x, dtype=torch.float32)
    dropped = BlockDropout.of(layout, 0.5)(rows, 1.0, torch.Generator().manual_seed(0))
    labs = torch.as_tensor(layout.block == 0)
    lost = (dropped[:, labs] == expected[:, labs]).all(dim=1)
    assert 0.4 < lost.float().mean() < 0.6
    assert torch.equal(dropped[~lost][:, labs], rows[~lost][:, labs])
    free = torch.as_tensor(layout.block == -1)
    assert torch.equal(dropped[:, free], rows[:, free])


def test_the_probability_rises_from_nothing(cohort: tuple[TableEncoder, FeatureLayout, np.ndarray, np.ndarray]) -> None:
    _, layout, x, _ = cohort
    rows, drop = torch.as_tensor(x, dtype=torch.float32), BlockDropout.of(layout, 0.8)
    share = []
    for done in (0.0, 0.3, 0.5, 0.9):
        changed = (drop(rows, done, torch.Generator().manual_seed(1)) != rows)[:, torch.as_tensor(layout.block == 1)].any(dim=1)
        share.append(float(changed.float().mean()))
    assert share[0] == 0
    assert share[0] < share[1] < share[2] < share[3]
    assert share[3] == pytest.approx(0.8, abs=0.05)
    assert [risen(d) for d in np.linspace(0, 1, 50)] == sorted(risen(d) for d in np.linspace(0, 1, 50))


def test_it_beats_none_where_the_block_is_missing(cohort: tuple[TableEncoder, FeatureLayout, np.ndarray, np.ndarray]) -> None:
    encoding, layout, x, outcome = cohort
    frame, truth = ill(2000, 1)
    whole = encoding.dense(encoding.numbers(frame))
    gone = frame.with_columns(pl.lit(None, dtype=pl.Float64).alias(f"lab_{j}") for j in range(3))
    without = encoding.dense(encoding.numbers(gone))
    head, near = {}, {}
    for rate in (0.0, 0.5):
        config = EncoderConfig(steps=200, hidden=48, width=16, block_dropout=rate)
        encoder = train_encoder(x, outcome, np.arange(len(x)), config, 0, layout)
        stored = embed(encoder, x)[0]
        head[rate] = [roc_auc_score(truth, embed(encoder, rows)[1]) for rows in (whole, without)]
        nearest = [np.argsort(-(embed(encoder, rows)[0] @ stored.T), axis=1)[:, :50] for rows in (whole, without)]
        near[rate] = [roc_auc_score(truth, outcome[rows].mean(axis=1)) for rows in nearest]
    for found in (head, near):
        assert found[0.5][1] > found[0.0][1] + 0.02  # without the labs
        assert found[0.5][0] > found[0.0][0] - 0.02  # and it costs little where they are there


def test_off_is_the_same_network_whatever_the_layout(cohort: tuple[TableEncoder, FeatureLayout, np.ndarray, np.ndarray]) -> None:
    _, layout, x, outcome = cohort
    config = EncoderConfig(steps=5, hidden=16, width=4)
    one = embed(train_encoder(x, outcome, np.arange(len(x)), config, 0), x)[0]
    other = embed(train_encoder(x, outcome, np.arange(len(x)), config, 0, layout), x)[0]
    assert np.array_equal(one, other)


def test_what_it_refuses(cohort: tuple[TableEncoder, FeatureLayout, np.ndarray, np.ndarray]) -> None:
    encoding, _, x, outcome = cohort
    with pytest.raises(InputError, match=r"block_dropout must lie in \[0, 1\)"):
        EncoderConfig(block_dropout=1.0)
    with pytest.raises(InputError, match="none were found: name them in the schema"):
        train_encoder(x, outcome, np.arange(len(x)), EncoderConfig(steps=1, block_dropout=0.3), 0, FeatureLayout.of(encoding))
