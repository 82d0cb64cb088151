"""Costs of columns: useful columns cost AUPRC when they are dropped, noise does not; what the model is given; errors."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from nearward.evaluation.feature_costs import column_costs
from nearward.tabular.ensemble.cross_fitting import EncodedClassifier
from nearward.tabular.errors import InputError, MissingColumns


def cohort(n: int = 900, seed: int = 1) -> pl.DataFrame:
    """Columns of noise beside a number, a category and a laboratory value that matter."""
    rng = np.random.default_rng(seed)
    dose, ward, lab = rng.normal(size=n), rng.choice(["a", "b", "c"], n), rng.normal(size=n)
    ill = rng.random(n) < 1 / (1 + np.exp(-(1.2 * dose + 1.5 * (ward == "b") + 1.4 * lab - 2.0)))
    noise = {f"noise {j}": rng.normal(size=n) for j in range(6)}
    return pl.DataFrame({**noise, "dose": dose, "ward": ward.tolist(), "lab": lab, "ill": ill.astype(int)})


class GroupedModel(LogisticRegression):
    """Requires groups of two rows each, and an outcome of 0 and 1 whose event is 1, although it has a named event."""

    def __init__(self, positive: str | int = "ill") -> None:
        super().__init__()
        self.positive = positive

    def fit(self, X: pl.DataFrame, y: np.ndarray, groups: np.ndarray | None = None) -> GroupedModel:
        assert self.positive == 1
        assert groups is not None
        assert (np.unique(groups, return_counts=True)[1] == 2).all()
        return super().fit(X.select("^dose|noise.*$"), y)

    def predict_proba(self, X: pl.DataFrame) -> np.ndarray:
        return super().predict_proba(X.select("^dose|noise.*$"))


def test_costs_of_columns() -> None:
    costs = column_costs(cohort(), "ill", ["dose", "ward", "noise 1"], model=EncodedClassifier(LogisticRegression()), resamples=100)
    assert costs.table["column"].to_list()[-1] == "noise 1"
    lost = dict(costs.table.select("column", "low").iter_rows())
    assert lost["dose"] > 0
    assert lost["ward"] > 0
    assert lost["noise 1"] < 0
    assert costs.lost.value == pytest.approx(costs.all_columns.value - costs.selected.value)
    assert costs.all_columns.value > costs.selected.value  # lab is not among the selected columns
    assert costs.seconds_selected.value < costs.seconds_all.value
    assert costs.seconds_selected.low <= costs.seconds_selected.value <= costs.seconds_selected.high


def test_costs_pass_groups_and_an_outcome_of_0_and_1_to_the_model() -> None:
    ill = pl.when(pl.col("ill") == 1).then(pl.lit("ill")).otherwise(pl.lit("well"))
    table = cohort(300).with_columns(ill.alias("ill"), patient=pl.int_range(pl.len()) // 2)
    column_costs(table, "ill", ["dose", "noise 1"], "patient", model=GroupedModel(), positive="ill", resamples=20)


def test_refusals() -> None:
    frame = cohort(100)
    with pytest.raises(InputError, match="at least two"):
        column_costs(frame, "ill", ["dose"])
    with pytest.raises(InputError, match="each once"):
        column_costs(frame, "ill", ["dose", "dose"])
    with pytest.raises(InputError, match="must be features"):
        column_costs(frame, "ill", ["dose", "ill"])
    with pytest.raises(MissingColumns):
        column_costs(frame, "ill", ["dose", "doze"])
