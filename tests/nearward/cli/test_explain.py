"""``nearward explain`` and ``nearward sheet``: rows by id or number, tables, pictures, pages, refusals."""

from __future__ import annotations

import stat

import polars as pl
import pytest
from typer.testing import CliRunner

from nearward.cli.explain import _draw
from nearward.cli.main import app
from nearward.tabular.errors import DataWarning, InputError


@pytest.fixture(scope="module")
def place(fitted, clinic, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    fitted.save(folder / "model")
    clinic[0][500:503].write_parquet(folder / "new.parquet")
    return folder


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [*map(str, words), "--permutations", "4"])
    assert result.exit_code == 0, result.output
    return result.output


def test_explain_prints_a_row_and_writes_table_and_picture(place) -> None:
    output = run("explain", place / "model", place / "new.parquet", "--row", 1, "--out", place / "e.csv", "--picture", place / "e.svg")
    assert "similar patients" in output
    table = pl.read_csv(place / "e.csv")
    assert table.columns == ["row", "column", "value", "contribution", "se"]
    assert "<svg" in (place / "e.svg").read_text()
    assert stat.S_IMODE((place / "e.svg").stat().st_mode) == 0o600


def test_without_a_row_all_are_explained_into_a_table(place) -> None:
    run("explain", place / "model", place / "new.parquet", "--out", place / "all.parquet")
    assert pl.read_parquet(place / "all.parquet")["row"].n_unique() == 3
    result = CliRunner().invoke(app, ["explain", str(place / "model"), str(place / "new.parquet")])
    assert isinstance(result.exception, InputError)


def test_a_picture_of_another_kind_is_refused(place) -> None:
    words = ["explain", place / "model", place / "new.parquet", "--row", 0, "--picture", place / "e.bmp", "--permutations", 4]
    result = CliRunner().invoke(app, [*map(str, words)])
    assert isinstance(result.exception, InputError)
    assert not (place / "e.bmp").exists()


def test_a_font_that_lacks_a_character_is_named_and_the_picture_is_written(tmp_path, recwarn) -> None:
    rows = {"column": ["(base rate)", "(similar patients)", "乳酸"], "value": [None, None, "4.7"]}
    explanation = pl.DataFrame({**rows, "contribution": [-3.0, 1.0, 0.5], "se": [0.0, 0.1, 0.1]})
    _draw(explanation, tmp_path / "why.svg")
    assert "乳酸" in (tmp_path / "why.svg").read_text()
    assert not recwarn.list
    with pytest.warns(DataWarning, match=r"boxes stand for them in why\.png"):
        _draw(explanation, tmp_path / "why.png")
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")


def test_sheet_is_one_page_with_all_its_parts_and_its_origin(place, clinic) -> None:
    run("sheet", place / "model", place / "new.parquet", "--row", 2, "--out", place / "sheet.html")
    page = (place / "sheet.html").read_text()
    assert stat.S_IMODE((place / "sheet.html").stat().st_mode) == 0o600
    for part in ("The risk", "Why this risk", "Similar patients", "What this page does not say", "row 2", "new.parquet", "Model</dt>"):
        assert part in page
    assert page.count("<svg") == 1
    assert f"{clinic[0]['ward'][502]}" in page
