"""Output of the commands: lines and tables for the reader, tables and JSON for a file or standard output."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nearward.cli.terminal.layout import fit_to_width

if TYPE_CHECKING:
    import polars as pl

    from nearward.risk_model.summary import ClassFigures

STANDARD = Path("-")  # standard input or output

_OUTPUTS = ("out", "report", "json", "picture")  # parameters of commands that name files to write
_state = {"quiet": False, "data": False, "printed": False}  # of the running command; data: standard output is for a table or JSON


def begin_output(quiet: bool, data: bool) -> None:
    """Set how the running command prints; ``data``: standard output is for a table or JSON, and text goes to standard error."""
    _state.update(quiet=quiet, data=data, printed=False)


def is_quiet() -> bool:
    """Whether the running command was called with ``--quiet``."""
    return _state["quiet"]


def say(text: str) -> None:
    """Print a line for the reader: on standard error where standard output is for data, nowhere with ``--quiet``."""
    _state["printed"] = True
    if not _state["quiet"]:
        typer.echo(text, err=_state["data"])


def show(frame: pl.DataFrame, title: str | None = None) -> None:
    """Print a frame under its title, as ``say`` prints; columns without any value are left out."""
    if _state["printed"]:
        say("")
    if title:
        say(title)
    texts = [["" if v is None else _as_text(v) for v in row] for row in frame.iter_rows()]
    say(fit_to_width(frame.columns, texts, [dtype.is_numeric() for dtype in frame.dtypes], shutil.get_terminal_size().columns))


def _as_text(value: Any) -> str:
    """Return a value as it is printed: of a number three digits, and no power of ten below a million."""
    if isinstance(value, float):
        return f"{value:.0f}" if 1_000 <= abs(value) < 1_000_000 else f"{value:.3g}"
    return str(value)


def show_classes(classes: Iterable[Any], figures: Sequence[ClassFigures], title: str) -> None:
    """Print the out-of-fold figures of each class."""
    import polars as pl

    show(pl.DataFrame([{"class": str(name), **vars(one)} for name, one in zip(classes, figures, strict=True)]), title)


def refuse_overwriting(arguments: Mapping[str, Any]) -> None:
    """Refuse a file to write that the command reads.

    Raises
    ------
    InputError
    """
    from nearward.tabular.errors import InputError

    given = {name: value if isinstance(value, list) else [value] for name, value in arguments.items()}
    files = {name: [path for path in paths if isinstance(path, Path) and path.is_file()] for name, paths in given.items()}
    read = [path for name, paths in files.items() if name not in _OUTPUTS for path in paths]
    for name in _OUTPUTS:
        if any(path.samefile(other) for path in files.get(name, []) for other in read):
            raise InputError(f"--{name} {files[name][0]} is a file that this command reads, and would be overwritten: name another")


def check_files(files: Mapping[str, Path | None]) -> None:
    """Check that the files of options can be written, before anything is computed.

    Parameters
    ----------
    files : option -> its file; None and ``-`` are skipped

    Raises
    ------
    InputError
        The file is a folder, or its folder is missing or cannot be written.
    """
    from nearward.tabular.errors import InputError

    for option, path in files.items():
        if path is None or path == STANDARD:
            continue
        if path.is_dir():
            reason = "is a folder: name a file"
        elif not path.parent.is_dir():
            reason = f"cannot be written: {path.parent}: no such folder"
        elif not os.access(path.parent, os.W_OK):
            reason = f"cannot be written: no permission to write into the folder {path.parent}"
        else:
            continue
        raise InputError(f"{option} {path} {reason}. Nothing was computed")


@contextmanager
def writing(path: Path, suffix: str) -> Iterator[Path]:
    """Yield the path to write to; where it is ``-``, that of a temporary file that is then copied to standard output."""
    if path != STANDARD:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"stdout{suffix}"
        yield copy
        typer.echo(copy.read_bytes(), nl=False)


def write_rows(frame: pl.DataFrame, out: Path) -> None:
    """Write a table to ``--out``: a file by its extension, or CSV on standard output."""
    from nearward.tabular.data.table_io import write_table

    with writing(out, ".csv") as path:
        write_table(frame, path)


def write_json(results: Mapping[str, Any], out: Path | None) -> None:
    """Write results to ``--json``, where it was given; frames become lists of rows, and numbers that are not finite become null."""
    from nearward.tabular.data.atomic_files import replacing

    if out is not None:
        text = json.dumps(_as_json(results), indent=2, allow_nan=False, ensure_ascii=False)
        with writing(out, ".json") as path, replacing(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def _as_json(value: Any) -> Any:
    """Return frames, dataclasses, numpy's numbers and dates as what JSON has."""
    import dataclasses

    if hasattr(value, "to_dicts"):  # a frame
        return _as_json(value.to_dicts())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _as_json({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {str(name): _as_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(part) for part in value]
    if hasattr(value, "item"):  # of numpy
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
