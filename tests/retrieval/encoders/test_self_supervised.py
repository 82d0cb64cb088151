"""Pretraining: cells are masked whole, views stay within their columns, and both pretexts learn without an outcome."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

import nearward as nw
from nearward.retrieval.encoders.aware import AwareEncoder, EncoderConfig, embed
from nearward.retrieval.encoders.self_supervised import CellDecoder, mask_cells, masked_loss, observed_cells, pretrain, resample_cells
from nearward.retrieval.encoders.training import train_encoder
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import InputError
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.preprocessing.table_encoder import TableEncoder

SMALL = EncoderConfig(hidden=32, axes=7, steps=30)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def kinds() -> tuple[FeatureLayout, np.ndarray, np.ndarray]:
    """Four kinds of patients, no outcome: three columns depend on the kind, three are noise, one is a category of the kind."""
    rows_rng = np.random.default_rng(0)
    kind = rows_rng.integers(0, 4, 800)
    centre = rows_rng.normal(size=(4, 3)) * 2
    informative = centre[kind] + 0.5 * rows_rng.normal(size=(800, 3))
    frame = pl.DataFrame({**{f"a{j}": informative[:, j] for j in range(3)}, **{f"n{j}": rows_rng.normal(size=800) for j in range(3)}})
    frame = frame.with_columns(
        ward=pl.Series(np.array(list("ABCD"))[kind]), a0=pl.when(pl.Series(rows_rng.random(800) < 0.9)).then(pl.col("a0"))
    )
    encoding = TableEncoder.fit(Schema.infer(frame), frame)
    return FeatureLayout.from_encoder(encoding), encoding.transform(frame), kind


def test_a_masked_cell_is_masked_in_all_its_columns(kinds: tuple[FeatureLayout, np.ndarray, np.ndarray]) -> None:
    layout, x, _ = kinds
    rows = torch.as_tensor(x, dtype=torch.float32)
    cells = torch.zeros((len(x), len(layout.columns)), dtype=torch.bool)
    cells[:, 0] = cells[:, 6] = True  # a0 and the ward
    seen = mask_cells(rows, cells, layout, rng())
    own = torch.as_tensor(np.isin(layout.source, [0, 6]))
    assert torch.equal(seen[:, ~own], rows[:, ~own])
    absent = (seen[:, own] == torch.as_tensor(layout.missing_value, dtype=torch.float32)[own]).all(dim=1)
    other = seen[~absent][:, torch.as_tensor(layout.source == 0)]
    assert 0.15 < absent.float().mean() < 0.35  # both by the coin
    assert not (seen[:, own] == rows[:, own]).all(dim=1).any()
    assert other.std() > 0.5


def test_observed_cells_follow_the_missing_flags(kinds: tuple[FeatureLayout, np.ndarray, np.ndarray]) -> None:
    layout, x, _ = kinds
    observed = observed_cells(torch.as_tensor(x), layout).numpy()
    flag = np.flatnonzero(layout.missing_value)
    assert len(flag) == 1
    np.testing.assert_array_equal(observed[:, 0], x[:, flag[0]] == 0)
    assert observed[:, 1:].all()


def test_resampled_cells_come_from_the_same_column_whole(kinds: tuple[FeatureLayout, np.ndarray, np.ndarray]) -> None:
    layout, x, _ = kinds
    rows = torch.as_tensor(x)
    for share in (0.1, 0.6):
        view = resample_cells(rows, share, layout, rng(1)).numpy()
        changed = 0.0
        for source in range(len(layout.columns)):
            columns = layout.source == source
            known = {row.tobytes() for row in np.ascontiguousarray(x[:, columns])}
            assert all(row.tobytes() in known for row in np.ascontiguousarray(view[:, columns]))
            changed += (view[:, columns] != x[:, columns]).any(axis=1).mean() / len(layout.columns)
        assert share - 0.15 < changed <= share + 0.03  # a donor may have the same level


def test_the_decoders_loss_by_hand() -> None:
    frame = pl.DataFrame({"x": [float(j) for j in range(20)], "ward": ["A", "B"] * 10})
    layout = FeatureLayout.from_encoder(TableEncoder.fit(Schema.infer(frame), frame))
    decoder = CellDecoder(4, layout)
    for parameter in decoder.parameters():
        torch.nn.init.zeros_(parameter)  # mean 0, deviation 1, both wards alike
    cell = torch.zeros((1, 4))
    cell[0, 0], cell[0, 2] = 2.0, 1.0  # x two deviations out, ward A
    loss = decoder.loss(torch.ones((1, 4)), cell)[0]
    assert loss.tolist() == pytest.approx([2 + 0.5 * math.log(2 * math.pi), math.log(2)], rel=1e-6)


def test_masked_cells_are_predicted_better_than_by_marginals_and_by_an_untrained_encoder(
    kinds: tuple[FeatureLayout, np.ndarray, np.ndarray],
) -> None:
    layout, x, _ = kinds
    rows = torch.as_tensor(x, dtype=torch.float32)

    def decoding_loss(encoder: AwareEncoder) -> float:
        """Loss of a new decoder on the encoder's hidden units."""
        torch.manual_seed(5)
        decoder = CellDecoder(32, layout)
        optimiser = torch.optim.Adam(decoder.parameters(), lr=1e-2)
        for step in range(200):
            loss = masked_loss(encoder, decoder, rows[:256], layout, rng(step))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return float(np.mean([masked_loss(encoder, decoder, rows[256:], layout, rng(1000 + j)).item() for j in range(5)]))

    config = EncoderConfig(hidden=32, axes=7, pretext="masked")
    torch.manual_seed(0)
    encoder = AwareEncoder(x.shape[1], config)
    before = decoding_loss(encoder)
    pretrain(encoder, torch.as_tensor(x, dtype=torch.float32), layout, 0)
    after = decoding_loss(encoder)
    marginal = CellDecoder(32, layout)
    torch.nn.init.zeros_(marginal.numbers.weight)
    torch.nn.init.zeros_(marginal.categories.weight)
    with torch.no_grad():
        marginal.numbers.bias[: len(layout.numeric)] = rows[:, [column for _, column in layout.numeric]].mean(dim=0)
        marginal.numbers.bias[len(layout.numeric) :] = rows[:, [column for _, column in layout.numeric]].std(dim=0).log()
    chance = float(np.mean([masked_loss(encoder, marginal, rows[256:], layout, rng(1000 + j)).item() for j in range(5)]))
    assert after < chance - 0.2
    assert after < before - 0.06


@pytest.mark.parametrize("pretext", ["masked", "views"])
def test_views_do_not_collapse_and_find_the_kinds(kinds: tuple[FeatureLayout, np.ndarray, np.ndarray], pretext: str) -> None:
    layout, x, kind = kinds
    config = EncoderConfig(hidden=32, axes=7, pretext=pretext)
    torch.manual_seed(0)
    encoder = AwareEncoder(x.shape[1], config)
    pretrain(encoder, torch.as_tensor(x, dtype=torch.float32), layout, 0)
    embedding = embed(encoder, x)[0]
    assert (embedding @ embedding.T).mean() < 0.9  # 1 where all rows lie in one spot
    if pretext == "views":
        near = np.argsort(-(embedding @ embedding.T), axis=1)[:, 1:11]
        raw = np.argsort(((x[:, None] - x[None]) ** 2).sum(axis=2), axis=1)[:, 1:11]
        assert (kind[near] == kind[:, None]).mean() > (kind[raw] == kind[:, None]).mean() - 0.02
        assert (kind[near] == kind[:, None]).mean() > 0.8  # by chance .25


def test_pretraining_is_reproducible_and_more_rows_change_it(kinds: tuple[FeatureLayout, np.ndarray, np.ndarray]) -> None:
    layout, x, kind = kinds
    outcome, group = (kind == 0).astype(np.int64), np.arange(800)
    config = EncoderConfig(hidden=32, axes=7, steps=30, pretext="views")

    def embeddings(more: np.ndarray | None = None) -> np.ndarray:
        return embed(train_encoder(x[:300], outcome[:300], group[:300], config, 0, layout, more), x)[0]

    first = embeddings()
    torch.manual_seed(99)
    assert np.array_equal(first, embeddings())
    assert not np.allclose(first, embeddings(x[300:]))
    without_pretext = train_encoder(x[:300], outcome[:300], group[:300], replace(config, pretext="none"), 0, layout)
    assert not np.allclose(first, embed(without_pretext, x)[0])


def test_a_small_table_gets_fewer_steps(kinds: tuple[FeatureLayout, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    layout, x, kind = kinds
    taken: list[int] = []
    monkeypatch.setattr("nearward.retrieval.encoders.training.pretrain", lambda *args: taken.append(args[-1]))
    for rows, steps in ((100, 600), (800, 600), (800, 5)):
        config = EncoderConfig(hidden=8, axes=3, steps=steps, pretext="views")
        train_encoder(x[:rows], (kind[:rows] == 0).astype(np.int64), np.arange(rows), config, 0, layout)
    assert taken == [80, 242, 5]  # thirty passes through the rows, never more steps than the training, 300 at the most


def test_invalid_settings_are_rejected(clinic) -> None:
    with pytest.raises(InputError, match=r"pretext must be one of .*'masked'"):
        EncoderConfig(pretext="mask")
    with pytest.raises(InputError, match="layout"):
        train_encoder(np.eye(4), np.array([0, 1, 0, 1]), np.arange(4), EncoderConfig(steps=1, pretext="masked"), 0)
    frame, died, _ = clinic
    with pytest.raises(InputError, match="unlabelled rows need a self-supervised pretext"):
        nw.RiskClassifier().fit(frame, died, unlabelled=frame)


@pytest.mark.slow
def test_the_classifier_reads_unlabelled_rows_and_says_so_on_disk(clinic, tmp_path) -> None:
    frame, died, _ = clinic
    config = EncoderConfig(hidden=16, axes=3, steps=5, pretext="views")
    rows, outcome = frame[:330], died[:330]
    alone = nw.RiskClassifier(random_state=0, folds=2, encoder=config, backbone=None).fit(rows, outcome)
    more = nw.RiskClassifier(random_state=0, folds=2, encoder=config, backbone=None).fit(rows, outcome, unlabelled=frame[330:])
    contexts = [model.summary_.retrieval.tried for model in (alone, more)]
    learned = [[trial.vote_auprc for trial in trials if trial.embedding == "AWARE encoders"] for trials in contexts]
    assert learned[0]
    assert learned[0] != learned[1]
    more.save(tmp_path / "m")
    assert nw.load(tmp_path / "m").encoder == config
