"""The schema: what is inferred, what is refused and in which words, and the one function that frames come through."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.errors import DataWarning, InputError, MissingColumns, NearwardError

SECRET = "Zanzibar"

HUGE = 1.7976931348623157e308
numbers = st.one_of(st.none(), st.just(math.nan), st.floats(allow_infinity=False), st.sampled_from([0.0, 1.0, HUGE, -HUGE]))
texts = st.one_of(st.none(), st.text(max_size=4), st.sampled_from(["f", "m", "Zoë", "数", "", " ", "1", "NaN"]))


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    """Frames of a number, a count, a flag and a text column, with NaN, null, repeated and huge values."""
    n = draw(st.integers(1, 12))
    return pl.DataFrame(
        {
            "x": draw(st.lists(numbers, min_size=n, max_size=n)),
            "count": draw(st.lists(st.one_of(st.none(), st.integers(-(2**62), 2**62)), min_size=n, max_size=n)),
            "flag": draw(st.lists(st.one_of(st.none(), st.booleans()), min_size=n, max_size=n)),
            "ü text": draw(st.lists(texts, min_size=n, max_size=n)),
        },
        schema={"x": pl.Float64, "count": pl.Int64, "flag": pl.Boolean, "ü text": pl.String},
    )


def quietly(frame: pl.DataFrame) -> Schema:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        try:
            return Schema.infer(frame)
        except InputError as error:
            assume("with commas" not in str(error))
            raise


# ---- inference -----------------------------------------------------------------------------------


def test_kinds_ranges_and_categories_are_inferred() -> None:
    frame = pl.DataFrame(
        {
            "age": [61, 70, None] * 5,
            "lactate": [0.5, math.nan, 2.5] * 5,
            "sex": ["m", "f", "m"] * 5,
            "ward": pl.Series(["b", "a", None] * 5, dtype=pl.Categorical),
            "stage": pl.Series(["i", "ii", "i"] * 5, dtype=pl.Enum(["i", "ii", "iii"])),
            "septic": [True, False, None] * 5,
            "dose": pl.Series([Decimal("1.50"), Decimal("2.25"), None] * 5),
            "seen": [date(2020, 1, 1)] * 15,
            "at": [datetime(2020, 1, 1)] * 15,
            "clock": [time(1, 2)] * 15,
        }
    )
    assert Schema.infer(frame).columns == (
        Column("age", low=61, high=70),
        Column("lactate", low=0.5, high=2.5),
        Column("sex", kind="category", categories=("f", "m")),
        Column("ward", kind="category", categories=("a", "b")),
        Column("stage", kind="category", categories=("i", "ii")),
        Column("septic", low=0, high=1, categories=("false", "true")),
        Column("dose", low=1.5, high=2.25),
        Column("seen", role="time", kind="category"),
        Column("at", role="time", kind="category"),
        Column("clock", role="time", kind="category"),
    )


def test_ranges_are_those_of_the_fifth_most_extreme_patients() -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"age": rng.permutation(np.arange(1.0, 101.0)), "rare": [None] * 91 + list(range(9))})
    schema = Schema.infer(frame)
    assert (schema["age"].low, schema["age"].high) == (5.0, 96.0)
    assert (schema["rare"].low, schema["rare"].high) == (None, None)
    patients = pl.Series(["p1" if age > 90 else f"p{age}" for age in frame["age"]])  # ten visits of one patient are one patient
    assert Schema.infer(frame, groups=patients)["age"].high == 87.0
    assert "100" not in schema.to_json() + repr(schema)


def test_categories_are_listed_up_to_two_hundred() -> None:
    few = Schema.infer(pl.DataFrame({"c": [f"{i % 200:03}-" for i in range(400)]}))["c"].categories
    assert few == tuple(f"{i:03}-" for i in range(200))
    assert Schema.infer(pl.DataFrame({"c": [f"{i % 201:03}-" for i in range(402)]}))["c"].categories is None


@pytest.mark.parametrize(
    "empty",
    [pl.Series("x", [None, None]), pl.Series("x", [None, None], dtype=pl.String), pl.Series("x", [math.nan, None])],
)
def test_a_column_without_a_value_is_ignored_by_name(empty: pl.Series) -> None:
    with pytest.warns(DataWarning, match="'x' has no value in any row"):
        assert Schema.infer(empty.to_frame())["x"].role == "ignore"


def test_text_that_differs_in_every_row_is_not_a_feature() -> None:
    with pytest.warns(DataWarning, match="'who' is text that differs in every row") as caught:
        schema = Schema.infer(pl.DataFrame({"who": [f"{SECRET} {i}" for i in range(21)], "x": range(21)}))
    assert schema["who"].role == "ignore"
    assert schema.features == ("x",)
    assert all(SECRET not in str(w.message) for w in caught)
    twenty = Schema.infer(pl.DataFrame({"who": [f"p{i}" for i in range(20)]}))
    assert twenty["who"].role == "feature"


def test_text_that_is_mostly_numbers_is_warned_of_with_counts_and_no_value() -> None:
    frame = pl.DataFrame({"lactate": [f"{i % 9}.5" for i in range(29)] + [SECRET]})
    with pytest.warns(DataWarning, match="'lactate' is text, but 29 of its 30 values read as numbers") as caught:
        assert Schema.infer(frame)["lactate"].kind == "category"
    assert SECRET not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Schema.infer(pl.DataFrame({"code": ["1", "2", "1"]}))["code"].kind == "category"  # numbered levels: fine


@settings(deadline=None, max_examples=60, derandomize=True)
@given(frame=frames())
def test_an_inferred_schema_survives_json_and_conforms_its_own_frame(frame: pl.DataFrame) -> None:
    schema = quietly(frame)
    assert Schema.from_json(schema.to_json()) == schema
    assert [c.name for c in schema.columns] == frame.columns
    conformed = schema.conform(frame)
    assert conformed.columns == [n for n in frame.columns if schema[n].role == "feature"]
    assert [conformed[n].dtype for n in conformed.columns] == [
        pl.Float64 if schema[n].kind == "number" else pl.String for n in conformed.columns
    ]
    for name in conformed.columns:
        before = frame[name].fill_nan(None) if name == "x" else frame[name]
        assert conformed[name].null_count() == before.null_count()
        if schema[name].kind == "number":
            assert not conformed[name].is_nan().any()
            inside = conformed[name].is_between(schema[name].low, schema[name].high).sum() if schema[name].low is not None else 0
            assert (conformed[name].count() < 10 and schema[name].low is None) or inside >= conformed[name].count() - 8
    assert_frame_equal(schema.conform(conformed), conformed)


# ---- the function ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40, derandomize=True)
@given(frame=frames(), data=st.data())
def test_a_row_is_conformed_the_same_alone_and_in_a_batch(frame: pl.DataFrame, data: st.DataObject) -> None:
    schema = quietly(frame)
    if not schema.features:
        return
    order = data.draw(st.permutations(range(frame.height)))
    whole = schema.conform(frame)
    assert_frame_equal(schema.conform(frame[order]), whole[order])
    assert_frame_equal(pl.concat([schema.conform(frame[i]) for i in range(frame.height)]), whole)


@pytest.mark.parametrize("company", [2.5, 1e308, None, math.nan])
def test_a_category_written_as_a_float_is_the_same_category_in_any_batch(company: float | None) -> None:
    schema = Schema((Column("ward", kind="category"),))
    alone = schema.conform(pl.DataFrame({"ward": [3.0]}))["ward"].to_list()
    beside = schema.conform(pl.DataFrame({"ward": [3.0, company]}))["ward"].to_list()
    assert alone == schema.conform(pl.DataFrame({"ward": [3]}))["ward"].to_list() == ["3"]
    assert beside[0] == "3"


def test_a_huge_number_is_not_a_missing_category() -> None:
    schema = Schema((Column("ward", kind="category"),))
    assert schema.conform(pl.DataFrame({"ward": [3.0, 1e308, math.nan]}))["ward"].is_null().to_list() == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("series", "levels"),
    [
        (pl.Series(["f", None]), ["f", None]),
        (pl.Series(["f", None], dtype=pl.Categorical), ["f", None]),
        (pl.Series(["f", None], dtype=pl.Enum(["f", "g"])), ["f", None]),
        (pl.Series([3, None], dtype=pl.UInt8), ["3", None]),
        (pl.Series([3.0, math.nan]), ["3", None]),
        (pl.Series([2.5, None]), ["2.5", None]),
        (pl.Series([True, None]), ["true", None]),
        (pl.Series([Decimal("1.5"), None]), ["1.5", None]),
        (pl.Series([Decimal("3.00"), Decimal("100.00"), Decimal("0.00"), Decimal("1.50"), None]), ["3", "100", "0", "1.5", None]),
        (pl.Series([Decimal(100), None]), ["100", None]),
        (pl.Series([None, None]), [None, None]),
    ],
)
def test_categories_become_text(series: pl.Series, levels: list[str | None]) -> None:
    out = Schema((Column("c", kind="category"),)).conform(series.alias("c").to_frame())["c"]
    assert out.dtype == pl.String
    assert out.to_list() == levels


@pytest.mark.parametrize(
    ("series", "values"),
    [
        (pl.Series([1, None], dtype=pl.Int8), [1.0, None]),
        (pl.Series([1.5, math.nan], dtype=pl.Float32), [1.5, None]),
        (pl.Series([math.nan, None]), [None, None]),
        (pl.Series([1e308, -1e308]), [1e308, -1e308]),
        (pl.Series([True, None]), [1.0, None]),
        (pl.Series([Decimal("1.25"), None]), [1.25, None]),
        (pl.Series([" 1.5 ", "-2e3", ".5", None]), [1.5, -2000.0, 0.5, None]),
        (pl.Series(["1", "2"], dtype=pl.Categorical), [1.0, 2.0]),
        (pl.Series([None, None]), [None, None]),
    ],
)
def test_numbers_become_floats(series: pl.Series, values: list[float | None]) -> None:
    out = Schema((Column("x"),)).conform(series.alias("x").to_frame())["x"]
    assert out.dtype == pl.Float64
    assert out.to_list() == values


def test_only_columns_of_the_requested_roles_are_returned_in_the_schemas_order() -> None:
    frame = pl.DataFrame({"extra": [0], "sofa": [3], "b": [1], "a": [2], "died": [1]})
    schema = Schema((Column("a"), Column("b"), Column("sofa", role="expert"), Column("died", role="outcome")))
    assert schema.conform(frame).to_dict(as_series=False) == {"a": [2.0], "b": [1.0], "sofa": [3.0]}
    assert schema.conform(frame, ("outcome",)).columns == ["died"]
    assert schema.conform(frame.drop("died")).height == 1  # a new patient has no outcome yet


# ---- refusals ------------------------------------------------------------------------------------


def test_missing_and_renamed_columns_are_named_with_the_likely_name() -> None:
    schema = Schema((Column("lactate"), Column("creatinine"), Column("age")))
    with pytest.raises(MissingColumns, match=r"\['lactate', 'creatinine'\].*'lactate': did you mean 'lactat'\?") as caught:
        schema.conform(pl.DataFrame({"lactat": [1], "kreatinin": [1], "age": [1], SECRET: [1]}))
    assert SECRET not in str(caught.value)
    assert isinstance(caught.value, NearwardError)
    assert isinstance(caught.value, ValueError)


def test_a_column_of_the_schema_is_not_suggested_for_another() -> None:
    with pytest.raises(MissingColumns) as caught:
        Schema((Column("lab1"), Column("lab2"))).conform(pl.DataFrame({"lab1": [1]}))
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("frame", [pl.DataFrame(), pl.DataFrame({"x": []}), pl.DataFrame({"x": []}, schema={"x": pl.String})])
def test_no_rows_or_no_columns_are_refused(frame: pl.DataFrame) -> None:
    with pytest.raises(InputError, match=f"{frame.height} rows and {frame.width} columns"):
        Schema.infer(frame)


def test_duplicate_columns_of_a_csv_are_named() -> None:
    frame = pl.read_csv(f"age,age,sex\n61,62,{SECRET}\n".encode())
    with pytest.raises(InputError, match=r"names columns twice: \['age'\]") as caught:
        Schema.infer(frame)
    assert SECRET not in str(caught.value)


def test_duplicate_columns_of_new_rows_are_refused_too() -> None:
    schema = Schema.infer(pl.DataFrame({"age": [61, 70]}))
    with pytest.raises(InputError, match=r"names columns twice: \['age'\]"):
        schema.conform(pl.read_csv(b"age,age\n61,620\n"))


def test_a_name_that_only_looks_like_a_duplicate_is_accepted() -> None:
    frame = pl.DataFrame({"claim": [1, 2], "claim_duplicated_by_payer": [0, 1]})
    assert Schema.infer(frame).features == ("claim", "claim_duplicated_by_payer")


def test_a_schema_names_no_column_twice() -> None:
    with pytest.raises(InputError, match=r"named twice in the schema: \['a'\]"):
        Schema((Column("a"), Column("b"), Column("a")))


def test_text_in_a_number_column_is_counted_and_not_quoted() -> None:
    with pytest.raises(InputError, match="'age' must be a number, but 2 of 4 values are text that is not one") as caught:
        Schema((Column("age"),)).conform(pl.DataFrame({"age": ["61", SECRET, None, SECRET]}))
    assert SECRET not in str(caught.value)
    assert "comma" not in str(caught.value)


def test_decimal_commas_are_recognised() -> None:
    frame = pl.DataFrame({"lactate": ["1,5", "2,25", None, "3"]})
    with pytest.raises(InputError, match=r"'lactate' must be a number, but 2 of 4 .* decimal commas") as caught:
        Schema((Column("lactate"),)).conform(frame)
    assert "2,25" not in str(caught.value)
    with pytest.raises(InputError, match=r"'lactate' is text of numbers with commas \(2 of 3 values\).*by points") as caught:
        Schema.infer(frame)
    assert "2,25" not in str(caught.value)


@pytest.mark.parametrize("values", [[1.0, math.inf, -math.inf], ["1", "inf", "-inf"], pl.Series([1, math.inf, math.inf], dtype=pl.Float32)])
def test_infinite_values_are_counted_by_column(values: Any) -> None:
    with pytest.raises(InputError, match="'lactate' holds 2 infinite"):
        Schema((Column("lactate"),)).conform(pl.DataFrame({"lactate": values}))


def test_infinite_values_are_refused_at_inference() -> None:
    with pytest.raises(InputError, match="'lactate' holds 1 infinite"):
        Schema.infer(pl.DataFrame({"lactate": [1.0, math.inf]}))


def test_nan_and_null_are_the_same_to_inference_and_to_conform() -> None:
    with_nan, with_null = pl.DataFrame({"x": [1.0, math.nan, 3.0]}), pl.DataFrame({"x": [1.0, None, 3.0]})
    assert Schema.infer(with_nan) == Schema.infer(with_null)
    assert_frame_equal(Schema.infer(with_nan).conform(with_nan), Schema.infer(with_nan).conform(with_null))


def test_the_largest_floats_are_numbers_like_any_other() -> None:
    frame = pl.DataFrame({"x": [1e308, -1.7e308, 0.0] * 5})
    schema = Schema.infer(frame)
    assert (schema["x"].low, schema["x"].high) == (-1.7e308, 1e308)
    assert_frame_equal(schema.conform(frame), frame)


MEANINGLESS: dict[str, tuple[pl.Series, str]] = {
    "list of lists": (pl.Series("stay", [[[SECRET]], [["b"]]]), r"List\(List\(String\)\)"),
    "array": (pl.Series("stay", [[1.0], [2.0]], dtype=pl.Array(pl.Float64, 1)), r"Array\(Float64"),
    "struct": (pl.Series("stay", [{"city": SECRET}, {"city": "b"}]), "Struct"),
    "binary": (pl.Series("stay", [SECRET.encode(), b"b"]), "Binary"),
    "duration": (pl.Series("stay", [timedelta(hours=1), timedelta(hours=2)]), "Duration"),
    "object": (pl.Series("stay", [object(), object()], dtype=pl.Object), "Object"),
    "lists of enum": (pl.Series("stay", [[[SECRET]], [[SECRET]]], dtype=pl.List(pl.List(pl.Enum([SECRET])))), "List"),
}


@pytest.mark.parametrize("case", MEANINGLESS)
@pytest.mark.parametrize(
    "function",
    [Schema.infer, Schema((Column("stay"),)).conform, Schema((Column("stay", kind="category"),)).conform],
    ids=["infer", "number", "category"],
)
def test_dtypes_without_a_meaning_are_refused_by_name_and_dtype(case: str, function: Callable[[pl.DataFrame], object]) -> None:
    series, dtype = MEANINGLESS[case]
    with pytest.raises(InputError, match=f"column 'stay' has dtype {dtype}") as caught:
        function(series.to_frame())
    assert SECRET not in str(caught.value)
    assert ("total_hours" in str(caught.value)) == (case == "duration")


def test_dates_in_a_number_column_are_refused() -> None:
    with pytest.raises(InputError, match="'age' has dtype Date"):
        Schema((Column("age"),)).conform(pl.DataFrame({"age": [date(1950, 1, 1)]}))


# ---- to and from people --------------------------------------------------------------------------


def test_roles_are_set_by_name() -> None:
    schema = Schema((Column("id"), Column("sofa"), Column("age"), Column("sex")))
    roles = schema.with_roles(id="id", expert=["sofa"], protected=None)
    assert (roles.named("id"), roles.experts, roles.features) == (("id",), ("sofa",), ("age", "sex"))
    assert roles.named("id", "expert") == ("id", "sofa")
    assert schema.features == ("id", "sofa", "age", "sex")
    with pytest.raises(MissingColumns, match="'sofaa': did you mean 'sofa'"):
        schema.with_roles(expert="sofaa")
    with pytest.raises(InputError, match="'age': role must be one of"):
        schema.with_roles(exprt=["age"])


def test_json_is_one_column_a_line_without_empty_fields() -> None:
    schema = Schema(
        (
            Column("Größe", unit="cm", low=1.0, high=2.0),
            Column("sex", kind="category", categories=("f", "m"), block="who"),
        )
    )
    lines = schema.to_json().splitlines()
    assert len(lines) == 4
    assert json.loads(lines[1].rstrip(","))["name"] == "Größe"
    assert "null" not in schema.to_json()
    assert json.loads(schema.to_json())["columns"][0] == {
        "name": "Größe", "role": "feature", "kind": "number", "unit": "cm", "low": 1.0, "high": 2.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a nearward schema"),
        ('{"nearward_schema": 2, "columns": []}', "not a nearward schema"),
        ('{"nearward_schema": 1, "columns": {}}', "not a nearward schema"),
        (
            '{"nearward_schema": 1, "columns": [{"name": "a", "rol": "id"}]}',
            r"unknown keys \['rol'\].*did you mean 'role'",
        ),
        ('{"nearward_schema": 1, "columns": [{"role": "id"}]}', "has no .name."),
        ('{"nearward_schema": 1, "columns": [{"name": "a", "role": "patient"}]}', "'a': role must be one of"),
        ('{"nearward_schema": 1, "columns": [{"name": "a", "kind": "text"}]}', "'a': kind must be one of"),
        ('{"nearward_schema": 1, "columns": [{"name": "a"}, {"name": "a"}]}', "named twice"),
        ('{"nearward_schema": 1, "columns": ["age"]}', "schema"),
        ('{"nearward_schema": 1, "columns": [{"name": "a", "low": "small"}]}', "low"),
        ('{"nearward_schema": 1, "columns": [{"name": 3}]}', "name"),
        ('{"nearward_schema": 1, "columns": [{"name": "a", "kind": "category", "categories": "fm"}]}', "categories"),
    ],
)
def test_an_invalid_schema_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Schema.from_json(text)


def test_a_schema_is_read_from_a_file(tmp_path: Path) -> None:
    schema = Schema((Column("Größe"),))
    (tmp_path / "s.json").write_text(schema.to_json(), encoding="utf-8")
    assert Schema.read(tmp_path / "s.json") == schema
    with pytest.raises(InputError, match=r"absent\.json"):
        Schema.read(tmp_path / "absent.json")


def test_the_review_has_a_row_a_column() -> None:
    schema = Schema(
        (
            Column("age", low=18, high=90.5),
            Column("c", kind="category", categories=tuple("abcdefg")),
            Column("d", role="id"),
        )
    )
    review = schema.review()
    assert review["column"].to_list() == ["age", "c", "d"]
    assert review["role"].to_list() == ["feature", "feature", "id"]
    assert review["values"].to_list() == ["18 to 90.5", "7 categories: a, b, c, d, e, f, …", ""]


@pytest.mark.parametrize(
    "column",
    [
        {"name": "a", "low": 1},
        {"name": "a", "low": 2, "high": 1},
        {"name": "a", "low": 0, "high": float("nan")},
        {"name": "a", "unit": 3},
        {"name": "a", "block": ["labs"]},
    ],
)
def test_an_invalid_column_is_refused_by_name(column: dict[str, object]) -> None:
    with pytest.raises(InputError, match="schema column 'a'"):
        Schema.from_json(json.dumps({"nearward_schema": 1, "columns": [column]}))


@pytest.mark.parametrize(
    ("values", "categories", "conformed"),
    [
        ([True, False, None], ("FALSE", "TRUE"), ["TRUE", "FALSE", None]),
        (["True", "False"], ("false", "true"), ["true", "false"]),
        (["1.0", "01", "2"], ("1", "2"), ["1", "01", "2"]),
        ([1.0, 2.0], ("1.0", "2.0"), ["1.0", "2.0"]),
        (["1.0"], ("1", "1.0"), ["1.0"]),
    ],
)
def test_categories_mean_the_same_whatever_carries_them(values: list[object], categories: tuple[str, ...], conformed: list[str]) -> None:
    schema = Schema((Column("x", kind="category", categories=categories),))
    assert schema.conform(pl.DataFrame({"x": values}))["x"].to_list() == conformed


def test_text_of_booleans_is_a_number_where_the_schema_says_so() -> None:
    schema = Schema((Column("x"),))
    assert schema.conform(pl.DataFrame({"x": ["TRUE", "False", None]}))["x"].to_list() == [1.0, 0.0, None]
    with pytest.raises(InputError, match="1 of 2 values"):
        schema.conform(pl.DataFrame({"x": ["TRUE", "1"]}))


@pytest.mark.parametrize("text", [["2020-02-29", None, "1999-12-31"], ["2020-02-29T12:00:00Z"], ["2020-02-29 12:00:00.5", "2020-03-01"]])
def test_dates_as_text_are_set_aside_as_dates_are(text: list[str | None]) -> None:
    with pytest.warns(DataWarning, match="column 'seen' is text of dates or times: not used"):
        assert Schema.infer(pl.DataFrame({"seen": text})).columns == (Column("seen", role="time", kind="category"),)
    assert Schema.infer(pl.DataFrame({"seen": ["2020-02-29", "unknown"]}))["seen"].role == "feature"


def test_conforming_a_frame_compares_each_name_a_few_times_only() -> None:
    """Searching a list for every column compares names quadratically: 11 s at 10,000 columns."""
    comparisons = 0

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal comparisons
            comparisons += 1
            return str.__eq__(self, other)

    names = [f"x{j}" for j in range(300)]
    frame = pl.DataFrame({name: [1.0, 2.0] for name in names})
    schema = Schema(tuple(Column(Name(name)) for name in names))
    schema.conform(frame)
    schema.with_roles(ignore=names[:100])
    assert 0 < comparisons < 10 * len(names)
