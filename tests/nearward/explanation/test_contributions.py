"""RiskClassifier.explain: the sum, the reference, reproducibility, and its refusals."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.explanation.contributions import BASE_RATE, explain_rows
from nearward.tabular.errors import InputError


@pytest.fixture(scope="module")
def explanation(fitted, clinic) -> pl.DataFrame:
    return fitted.explain(clinic[0][500:503], permutations=8)


def test_contributions_sum_to_the_log_odds_of_the_risk(explanation, fitted, clinic) -> None:
    assert explanation.columns == ["row", "column", "value", "contribution", "se"]
    total = explanation.group_by("row", maintain_order=True).agg(pl.col("contribution").sum())["contribution"].to_numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-total)), fitted.predict_frame(clinic[0][500:503])["risk"], atol=1e-12)
    base = explanation.filter(pl.col("column") == BASE_RATE)["contribution"][0]
    assert 1 / (1 + np.exp(-base)) == pytest.approx(fitted.summary_.events / fitted.summary_.rows)


def test_every_column_has_its_value_and_the_largest_comes_first(explanation, clinic) -> None:
    first = explanation.filter(pl.col("row") == 0)
    assert first["column"][:2].to_list() == ["(base rate)", "(similar patients)"]
    assert set(first["column"][2:]) == set(clinic[0].columns)
    assert first["contribution"][2:].abs().is_sorted(descending=True)
    assert first.row(by_predicate=pl.col("column") == "ward", named=True)["value"] == clinic[0]["ward"][500]
    missing = clinic[0][500:503]["lactate"].is_null().to_list()
    shown = explanation.filter(pl.col("column") == "lactate")["value"].to_list()
    assert [text == "missing" for text in shown] == missing


def test_a_rows_explanation_does_not_depend_on_other_rows(explanation, fitted, clinic) -> None:
    alone = fitted.explain(clinic[0][501:502], permutations=8)
    together = explanation.filter(pl.col("row") == 1)
    np.testing.assert_allclose(alone["contribution"], together["contribution"], atol=1e-9)
    assert alone["column"].to_list() == together["column"].to_list()


def test_against_the_cohort_a_strong_effect_has_its_sign(fitted, clinic) -> None:
    """Risk rises with age and in intensive care, by construction; an old patient in the ICU is compared with all others."""
    row = clinic[0][500:501].with_columns(age=pl.lit(88.0), ward=pl.lit("ICU"), sofa=pl.lit(1.5))
    contributions = dict(fitted.explain(row, "cohort", permutations=16).select("column", "contribution").iter_rows())
    assert "(cohort)" in contributions
    assert contributions["sofa"] > 0
    assert contributions["age"] > 0


@pytest.mark.parametrize(("options", "message"), [({"reference": "all"}, "reference must be"), ({"permutations": 7}, "even"),
                                                  ({"permutations": 2}, "permutations"), ({"seed": -1}, "seed")])  # fmt: skip
def test_refusals(fitted, clinic, options, message) -> None:
    with pytest.raises(InputError, match=message):
        fitted.explain(clinic[0][:1], **options)


def test_several_classes_have_an_explanation_each() -> None:
    stored = pl.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "value": [1.0, 1.0, 1.0, 2.0]})
    table = explain_rows(
        lambda rows: rows.to_numpy() @ np.array([[1.0, -2.0], [0.0, 1.0]]), np.array([0.5, 0.2]), lambda _: None, stored, np.arange(4),
        stored[3:], pl.Series("value", ["v1"]), reference="cohort", permutations=8, seed=0,
    )  # fmt: skip
    assert table.columns == ["row_id", "class", "column", "value", "contribution", "se"]  # an id column of the same name gives way
    assert table["class"].to_list() == [0] * 4 + [1] * 4
    assert table.group_by("class", maintain_order=True).agg(pl.col("contribution").sum())["contribution"].to_list() == pytest.approx(
        [3, -4]
    )
    first = dict(table.filter(pl.col("class") == 0).select("column", "contribution").iter_rows())
    assert first["a"] == pytest.approx(1.5)  # the donors are one of each, since they are drawn systematically
    assert first["value"] == 0
