"""The names of the columns of codes, and what is told of them together."""

from __future__ import annotations

import pytest

from nearward.tabular.events.code_columns import CodeColumns, code_of_column, list_counts, targets

SPANS = ("90m", "24h", None)
SUMMARISED = (
    CodeColumns("LAB//50813", "Lactate: blood", "number", (0, 1, 2), 60, slopes=(1, 2)),
    CodeColumns("Intubation", "Intubation", "code", (0, 2), 60, texts=("oral", "nasal")),
    CodeColumns("Smoker", "Smoker\nor was", "flag", (), 60),
)


@pytest.mark.parametrize("code", SUMMARISED, ids=lambda code: code.kind)
def test_the_summaries_of_a_code_are_known_by_their_names(code: CodeColumns) -> None:
    names = [target.column.name for target in targets([code], SPANS)]
    if code.kind == "code":
        names.append(code.text_column.name)
    assert {code_of_column(name) for name in names} == {code.name}


def test_a_table_s_own_columns_are_no_summaries() -> None:
    fact = CodeColumns("Height", "Height", "fact", (), 60)
    own = [
        targets([fact], SPANS)[0].column.name,
        "Diagnosis: main",
        "Diagnosis: second",
        "Lactate: max, first day",
        ": last",
        "last",
        "LAB: rare codes",
    ]
    assert [code_of_column(name) for name in own] == own
    assert list_counts({"Diagnosis: main": 1, "Diagnosis: second": 2}) == "'Diagnosis: second' in 2 rows, 'Diagnosis: main' in 1 row"
