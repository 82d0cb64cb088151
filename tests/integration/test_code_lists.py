"""A model with a column of code lists, from fit to the similar patients, saved and loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.tabular.errors import InputError


def admissions(n: int, seed: int) -> pl.DataFrame:
    """Rows whose outcome follows one of thirty codes; a tenth have no list, a tenth an empty one."""
    rng = np.random.default_rng(seed)
    codes = [sorted({f"C{int(v):02}" for v in 30 * rng.random(4) ** 2}) for _ in range(n)]
    lists = [None if draw < 0.1 else [] if draw < 0.2 else row for draw, row in zip(rng.random(n), codes, strict=True)]
    died = [int(row is not None and "C05" in row and draw < 0.9) for row, draw in zip(lists, rng.random(n), strict=True)]
    return pl.DataFrame({"dx": lists, "age": rng.normal(60, 10, n), "died": died})


@pytest.fixture(scope="module")
def model() -> nw.RiskClassifier:
    train = admissions(250, 0)
    return nw.RiskClassifier(random_state=0, backbone=None).fit(train.drop("died"), train["died"])


def test_codes_are_learned_and_survive_saving(model: nw.RiskClassifier, tmp_path: Path) -> None:
    new = admissions(200, 1)
    scores = model.predict_frame(new.drop("died"))
    risk, died = scores["risk"].to_numpy(), new["died"].to_numpy()
    assert risk[died == 1].mean() > 3 * risk[died == 0].mean()
    model.save(tmp_path / "model")
    again = nw.load(tmp_path / "model")
    assert again.predict_frame(new.drop("died")).equals(scores)
    similar = again.similar(new[:2].drop("died"), k=3)
    assert similar.height == 6


def test_an_unseen_code_beside_known_ones_is_a_rare_one(model: nw.RiskClassifier) -> None:
    rows = pl.DataFrame({"dx": [["C05", "X99"], ["C05", "Y77"]], "age": [60.0, 60.0]})
    risk = model.predict_frame(rows)["risk"]
    assert risk[0] == risk[1]


def test_a_synthetic_table_of_lists_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="'dx'"):
        nw.Synthesizer(seed=0).fit(admissions(250, 0), outcome="died")
