"""Tables in and out: what is written is read back, what cannot be read is refused, and a failed write loses nothing."""

from __future__ import annotations

import gzip
import os
import stat
import tempfile
import traceback
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from nearward.tabular.data.table_io import read_table, to_frame, to_series, write_table
from nearward.tabular.errors import InputError

ENDINGS = (".parquet", ".csv", ".arrow", ".feather", ".ipc")
SECRET = "Zanzibar"


@pytest.fixture
def frame() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "age": [61, None, 70],
            "lactate": [1.5, 1e308, None],
            "sex": ["f", None, "Zoë 💉, m"],
            "ill": [True, False, None],
        }
    )


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ENDINGS)
def test_a_table_is_read_as_written(frame: pl.DataFrame, tmp_path: Path, suffix: str) -> None:
    write_table(frame, tmp_path / f"cohort{suffix}")
    assert_frame_equal(read_table(tmp_path / f"cohort{suffix}"), frame)


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    rows=st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats()),
            st.one_of(st.none(), st.text(max_size=5)),
            st.one_of(st.none(), st.booleans()),
        ),
        max_size=8,
    )
)
def test_binary_files_are_exact(suffix: str, rows: list[tuple[object, ...]]) -> None:
    frame = pl.DataFrame(rows, schema={"x": pl.Float64, "ä text": pl.String, "b": pl.Boolean}, orient="row")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t{suffix}"
        write_table(frame, path)
        assert_frame_equal(read_table(path), frame)


def test_csv_reads_the_usual_words_for_missing_as_null(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,x\nNA,NA\n,null\nNaN,y\n4,z\n")
    assert read_table(tmp_path / "t.csv").to_dict(as_series=False) == {
        "a": [1, None, None, None, 4],
        "b": ["x", None, None, "y", "z"],
    }


def test_csv_infers_dtypes_from_every_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n" + "1\n" * 5000 + "2.5\n")
    assert read_table(tmp_path / "t.csv")["a"].to_list()[-1] == 2.5


@pytest.mark.parametrize("suffix", ENDINGS)
def test_brackets_in_a_file_name_are_no_pattern(tmp_path: Path, suffix: str) -> None:
    write_table(pl.DataFrame({"patient": [1]}), tmp_path / f"p1{suffix}")
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / f"p[1]{suffix}")
    for name in (f"p[1]{suffix}", f"p?{suffix}", f"p*{suffix}"):
        write_table(pl.DataFrame({"patient": [2]}), tmp_path / name)
        assert read_table(tmp_path / name)["patient"].to_list() == [2]


def test_a_star_is_a_pattern_where_no_file_has_that_name(tmp_path: Path) -> None:
    folder = tmp_path / "a[1]"
    folder.mkdir()
    for i in (2, 1):
        write_table(pl.DataFrame({"patient": [i]}), folder / f"p{i}.parquet")
    assert read_table(folder / "p*.parquet")["patient"].to_list() == [1, 2]
    with pytest.raises(InputError, match="no file of this pattern"):
        read_table(folder / "q*.parquet")
    with pytest.raises(InputError, match="no such file"):
        read_table(folder / "p*.csv")


def test_a_folder_is_read_with_its_hive_partitions(tmp_path: Path) -> None:
    for ward, year in (("01", 2019), ("ICU%2FA", 2020)):
        folder = tmp_path / f"ward={ward}" / f"year={year}"
        folder.mkdir(parents=True)
        write_table(pl.DataFrame({"age": [year - 1950]}), folder / "part-0.parquet")
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / "_old").mkdir()
    write_table(pl.DataFrame({"age": [1]}), tmp_path / "_old" / "part-0.parquet")
    expected = {"age": [69, 70], "ward": ["01", "ICU/A"], "year": [2019, 2020]}
    assert read_table(tmp_path).to_dict(as_series=False) == expected
    write_table(pl.DataFrame({"weight": [1]}), tmp_path / "ward=01" / "x.parquet")
    with pytest.raises(InputError, match="different columns"):
        read_table(tmp_path)


def test_a_gzipped_csv_is_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "t[1].csv.gz", "wt") as file:
        file.write("age,ward\n61,01\n")
    assert read_table(tmp_path / "t[1].csv.gz").rows() == [(61, "01")]
    (tmp_path / "u.csv.gz").write_bytes((tmp_path / "t[1].csv.gz").read_bytes()[:-12])
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "u.csv.gz")


def test_an_address_is_read_by_polars(tmp_path: Path) -> None:
    write_table(pl.DataFrame({"patient": [2]}), tmp_path / "p[1].parquet")
    for address in (f"file://{tmp_path}/p[1].parquet", Path(f"file://{tmp_path}/p[1].parquet")):  # a Path has one slash left of the two
        assert read_table(address)["patient"].to_list() == [2]
    with pytest.raises(InputError, match="cannot be read"):
        read_table(f"file://{tmp_path}/absent.parquet")
    with pytest.raises(InputError, match="only Parquet"):
        read_table("s3://bucket/t.csv")


@pytest.mark.parametrize("name", ["*", "^a.*$", ""])
def test_column_names_that_polars_reads_as_patterns_are_refused(tmp_path: Path, name: str) -> None:
    frame = pl.DataFrame({"age": [61], name: [1]})
    with pytest.raises(InputError, match=r"reads as patterns|without a name"):
        to_frame(frame)
    frame.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"reads as patterns|without a name"):
        read_table(tmp_path / "t.parquet")


def test_a_path_may_be_text(frame: pl.DataFrame, tmp_path: Path) -> None:
    write_table(frame, str(tmp_path / "t.parquet"))
    assert_frame_equal(read_table(str(tmp_path / "t.parquet")), frame)


def test_a_missing_file_and_an_unknown_extension_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.csv: no such file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(InputError, match=r"cohort\.doc: unknown file extension; known: \.parquet"):
        read_table(tmp_path / "cohort.doc")
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "folder.parquet")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather", ".ipc"])
@pytest.mark.parametrize("spoil", ["empty", "foreign", "half"])
def test_a_corrupt_file_is_refused(frame: pl.DataFrame, tmp_path: Path, suffix: str, spoil: str) -> None:
    path = tmp_path / f"t{suffix}"
    write_table(frame, path)
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "foreign": f"{SECRET},2\n".encode() * 50, "half": whole[: len(whole) // 2]}[spoil])
    with pytest.raises(InputError, match=f"cannot be read as {suffix}") as caught:
        read_table(path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"a,b\n1,2\n3,4,5,Zanzibar\n", b"a,b\n1,\xff\xfe\xff\n"])
def test_a_corrupt_csv_is_refused_without_a_value(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(InputError, match=r"is empty|cannot be read as \.csv|is not UTF-8 text \(line 2\)") as caught:
        read_table(tmp_path / "t.csv")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_flipped_bytes_give_a_frame_or_an_input_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    write_table(pl.DataFrame({"x": range(40), "s": [f"level {i % 7}" for i in range(40)]}), path)
    whole, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    for _ in range(60):
        spoilt = whole.copy()
        spoilt[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(spoilt)
        try:
            assert isinstance(read_table(path), pl.DataFrame)
        except InputError as error:
            assert "cannot be read" in str(error)  # noqa: PT017


@pytest.mark.parametrize("suffix", ENDINGS)
def test_files_are_private(frame: pl.DataFrame, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_table(frame, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failed_write_leaves_the_previous_file_and_no_temporary_file(frame: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_table(frame, path)
    before = path.read_bytes()
    with pytest.raises(Exception, match="cannot be written"):
        write_table(pl.DataFrame({"x": [[1, 2]]}), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["t.csv"]


def test_a_failed_rename_leaves_no_temporary_file(frame: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_table(frame, tmp_path / "t.parquet")
    assert os.listdir(tmp_path) == []


def test_writing_to_an_unknown_folder_or_extension_is_refused(frame: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        write_table(frame, tmp_path / "absent" / "t.parquet")
    with pytest.raises(InputError, match="unknown file extension"):
        write_table(frame, tmp_path / "t.xlsx")
    assert os.listdir(tmp_path) == []


# ---- frames --------------------------------------------------------------------------------------


def test_frames_are_unchanged_and_lazy_frames_are_collected(frame: pl.DataFrame) -> None:
    assert to_frame(frame) is frame
    assert_frame_equal(to_frame(frame.lazy()), frame)


def test_arrays_become_columns_in_order() -> None:
    array = np.asfortranarray(np.arange(6.0).reshape(3, 2))
    assert to_frame(array).to_dict(as_series=False) == {"x0": [0.0, 2.0, 4.0], "x1": [1.0, 3.0, 5.0]}
    assert to_frame([[1, 2], [3, 4]], names=["a", "b"]).to_dict(as_series=False) == {"a": [1, 3], "b": [2, 4]}


def test_arrays_of_objects_become_numbers() -> None:
    assert to_frame(np.array([[1, 2.5]], dtype=object)).dtypes == [pl.Float64, pl.Float64]
    with pytest.raises(InputError, match="numbers only") as caught:
        to_frame(np.array([[1, SECRET]], dtype=object))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (np.zeros(3), "1D array"),
        (np.zeros((2, 2, 2)), "3D array"),
        (np.zeros((0, 2)), "no rows or no columns"),
        (np.zeros((2, 0)), "no rows or no columns"),
        (np.zeros((2, 2), dtype=complex), "Complex"),
        (pl.Series("x", [1, 2]), "X must be a frame, got Series"),
        (SECRET, "X must be a frame, got str"),
        (None, "X must be a frame, got NoneType"),
        (3, "0D array"),
    ],
)
def test_other_objects_are_refused(thing: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        to_frame(thing)
    assert SECRET not in str(caught.value)


def test_sparse_matrices_are_refused_with_a_remedy() -> None:
    from scipy.sparse import csr_matrix

    with pytest.raises(InputError, match=r"toarray\(\)"):
        to_frame(csr_matrix(np.eye(2)))


class _ArrowTable:
    """A table that offers the Arrow stream protocol and nothing else, as pyarrow's and DuckDB's do."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def test_arrow_tables_keep_names_kinds_and_nulls(frame: pl.DataFrame) -> None:
    assert_frame_equal(to_frame(_ArrowTable(frame)), frame)


def test_a_pandas_frame_with_a_column_twice_is_refused() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(InputError, match=r"names columns twice: \['a'\]"):
        to_frame(pandas.DataFrame([[1, 2, 3]], columns=["a", "b", "a"]))


def test_pandas_frames_keep_names_text_and_missing_values() -> None:
    pandas = pytest.importorskip("pandas")
    frame = to_frame(pandas.DataFrame({"age": [61.0, None], "sex": ["f", None], 3: [1, 2]}))
    assert frame.columns == ["age", "sex", "3"]
    assert frame["sex"].to_list() == ["f", None]
    assert frame["age"].fill_nan(None).to_list() == [61.0, None]
    assert frame["3"].to_list() == [1, 2]


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.arrow"])
def test_a_disk_that_is_full_while_polars_writes_is_named_and_the_earlier_file_stays(tmp_path, name) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / name
    write_table(pl.DataFrame({"x": [1]}), path)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        with pytest.raises(OSError, match=name) as caught:
            write_table(pl.DataFrame({"x": range(100_000)}), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == 27  # File too large
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_column_that_a_file_cannot_hold_is_an_input_error(tmp_path) -> None:
    with pytest.raises(InputError, match=r"cannot be written as \.csv"):
        write_table(pl.DataFrame({"x": [[1, 2]]}), tmp_path / "t.csv")


def test_pandas_categories_are_text_whatever_they_hold() -> None:
    pandas = pytest.importorskip("pandas")
    frame = to_frame(pandas.DataFrame({"site": pandas.Categorical([1, 2, None]), "sex": pandas.Categorical(["f", None, "m"])}))
    assert frame.rows() == [("1", "f"), ("2", None), (None, "m")]


def test_an_arrow_dictionary_of_integers_is_text() -> None:
    class Coded(_ArrowTable):
        schema = (SimpleNamespace(name="site", type="dictionary<values=int64, indices=int8, ordered=0>"),)

    assert to_frame(Coded(pl.DataFrame({"site": [1, 2], "age": [61, 70]}))).rows() == [("1", 61), ("2", 70)]


@pytest.mark.parametrize("values", [[SECRET, 1, 2.5], [1, SECRET], [True, SECRET], [object()], [True, 2.5]])
def test_a_pandas_column_of_mixed_objects_is_refused_without_a_value(values: list[object]) -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(InputError, match=r"column 'x' (mixes|holds objects)") as caught:
        to_frame(pandas.DataFrame({"x": pandas.Series(values, dtype=object)}))
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_pandas_numbers_times_and_uuids_lose_nothing() -> None:
    pandas = pytest.importorskip("pandas")
    frame = to_frame(
        pandas.DataFrame(
            {
                "large": pandas.array([2**53 + 1, None], dtype="Int64"),
                "object": pandas.Series([1, 2.5], dtype=object),
                "day": pandas.Series(["2020-01-01", None], dtype="datetime64[s]"),
                "stay": pandas.to_timedelta([1, 2], unit="s").astype("timedelta64[s]"),
                "id": [UUID(int=1), None],
            }
        )
    )
    assert frame.to_dict(as_series=False) == {
        "large": [2**53 + 1, None],
        "object": [1.0, 2.5],
        "day": [datetime(2020, 1, 1), None],
        "stay": [timedelta(seconds=1), timedelta(seconds=2)],
        "id": [str(UUID(int=1)), None],
    }


def test_uuids_are_text_and_other_objects_are_refused() -> None:
    uuids = [UUID(int=2), UUID(int=1), UUID(int=2)]
    for values in (uuids, pl.Series(uuids, dtype=pl.Object)):
        assert to_series("groups", values).to_list() == [str(value) for value in uuids]
    with pytest.raises(InputError, match=r"groups holds objects of the types \['complex'\]"):
        to_series("groups", pl.Series([1j], dtype=pl.Object))


def test_durations_are_days_in_csv(tmp_path) -> None:
    path = tmp_path / "stays.csv"
    write_table(pl.DataFrame({"stay": [timedelta(hours=36)]}), path)
    assert path.read_text().split() == ["stay", "1.5"]
