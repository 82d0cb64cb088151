"""The waterfall: one bar a column, the others together, refused for several rows."""

from __future__ import annotations

import polars as pl
import pytest

from nearward.explanation.waterfall import waterfall
from nearward.tabular.errors import InputError


def explanation(columns: int) -> pl.DataFrame:
    names = ["(base rate)", "(similar patients)", *(f"x$_{j}" for j in range(columns))]
    changes = [-2.0, 0.5, *(0.4 / (j + 1) * (-1) ** j for j in range(columns))]
    values = pl.Series([None, None, *map(str, range(columns))], dtype=pl.String)
    return pl.DataFrame({"column": names, "value": values, "contribution": changes, "se": [0.0, *([0.1] * (columns + 1))]})


def test_bars_end_where_the_next_begin_and_the_last_at_the_risk() -> None:
    table = explanation(6)
    figure = waterfall(table, columns=4)
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["(base rate)", "(similar patients)", *(rf"x\$_{j} = {j}" for j in range(4)), "2 other columns", "risk"]
    starts = [bar.get_x() for bar in axes.patches]
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
    assert starts[0] == pytest.approx(-2.0)
    assert starts[1:] == pytest.approx(ends[:-1])
    assert ends[-1] == pytest.approx(table["contribution"].sum())


def test_two_rows_are_refused() -> None:
    with pytest.raises(InputError, match="one row"):
        waterfall(pl.concat([explanation(2), explanation(2)]))
    with pytest.raises(InputError, match="columns must be"):
        waterfall(explanation(2), columns=0)
