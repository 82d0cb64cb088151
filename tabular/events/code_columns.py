"""The columns of each code: names that a clinician reads, and where each summary goes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nearward.tabular.data.schema import Column
from nearward.tabular.errors import list_first
from nearward.tabular.events.aggregates import STATISTICS

_BLOCKS = {"number": "measurements", "fact": "facts", "code": "occurrences", "flag": "facts"}  # of codes without a prefix

_LAST_TEXT = "last text"
OTHER = "other"  # the category of all texts that are none of a code's own
_STATISTIC = rf"last|from usual|hours since|seen|{_LAST_TEXT}|({'|'.join(STATISTICS)})(, \d+[smhdw])?"
_SUMMARY = re.compile(rf"(?P<name>.+): ({_STATISTIC})", re.DOTALL)  # the names that ``_targets`` gives
CodeKind = Literal["number", "fact", "code", "flag"]


@dataclass(frozen=True)
class CodeColumns:
    """A code that has columns of its own.

    Parameters
    ----------
    code : str
    name : str
        Its description, or itself where it has none.
    kind : str
        ``number``: measured again and again; ``fact``: a number that most subjects have once; ``code``: an occurrence; ``flag``: an
        occurrence without a time.
    spans : tuple of int
        Positions of the spans with columns: those in which enough subjects have the code, and which do not hold the same events as
        the next longer one; of numbers only the longest one and those in which a subject usually has two or more.
    slopes : tuple of int
        Those of the spans in which a subject usually has three numbers or more.
    n_subjects : int
        Subjects of the training labels that have it.
    unit : str or None
        Of the numbers.
    checked_unit : str or None
        The usual unit of the training events, where they have units; numbers in another one are left out.
    centre, spread : float
        Median and interquartile range of the numbers.
    log10 : float or None
        Mean of log10 of the absolute numbers, without zeros.
    texts : tuple of str
        The texts of an occurrence that are categories of a column; none where it has no such column.
    """

    code: str
    name: str
    kind: CodeKind
    spans: tuple[int, ...]
    n_subjects: int
    slopes: tuple[int, ...] = ()
    unit: str | None = None
    checked_unit: str | None = None
    centre: float = 0.0
    spread: float = 1.0
    log10: float | None = None
    texts: tuple[str, ...] = ()

    @property
    def text_column(self) -> Column | None:
        """The column of the last text."""
        if not self.texts:
            return None
        name = self.name if self.kind == "flag" else f"{self.name}: {_LAST_TEXT}"
        return Column(name, kind="category", categories=tuple(sorted({*self.texts, OTHER})), block=self.block)

    @property
    def block(self) -> str:
        """Kind of code: what stands before ``//``, as in ``LAB//50813//mmol/L``; else by its columns."""
        return kind_of_code(self.code) or _BLOCKS[self.kind]

    def named(self, name: str) -> CodeColumns:
        """Return a copy with another name."""
        return dataclasses.replace(self, name=name)


@dataclass(frozen=True)
class Target:
    """One column of features.

    Parameters
    ----------
    column : Column
    code : int, position of the code
    statistic : str
    span : int or None, position of the span
    """

    column: Column
    code: int
    statistic: str
    span: int | None


def kind_of_code(code: str) -> str | None:
    """Return what stands before ``//`` in a code, as in ``LAB//50813//mmol/L``; None where nothing does."""
    prefix, separator, _ = code.partition("//")
    return prefix if separator else None


def targets(codes: Sequence[CodeColumns], spans: Sequence[str | None]) -> list[Target]:
    """Return the columns of all codes, in order."""
    return [target for position, code in enumerate(codes) for target in _targets(code, position, spans)]


def code_of_column(column: str) -> str:
    """Return the name of the code whose summary a column is, else the column itself.

    Examples
    --------
    >>> [code_of_column(column) for column in ("Lactate: max, 6h", "Lactate: last", "Diagnosis: main")]
    ['Lactate', 'Lactate', 'Diagnosis: main']
    """
    summary = _SUMMARY.fullmatch(column)
    return summary["name"] if summary else column


def list_counts(rows: Mapping[str, int]) -> str:
    """Return columns with their numbers of rows, most first; the columns of one code of events are one entry.

    Examples
    --------
    >>> list_counts({"age": 2, "Lactate: last": 3, "Lactate: max, 6h": 1})
    "'Lactate' in 3 rows (2 columns), 'age' in 2 rows"
    """
    codes: dict[str, list[str]] = {}
    for column in rows:
        codes.setdefault(code_of_column(column), []).append(column)
    most = {code: max(rows[column] for column in columns) for code, columns in codes.items()}
    return list_first(
        [
            f"{(code if len(codes[code]) > 1 else codes[code][0])!r} in {count} row{'s' * (count > 1)}"
            + (f" ({len(codes[code])} columns)" if len(codes[code]) > 1 else "")
            for code, count in sorted(most.items(), key=lambda item: -item[1])
        ]
    )


def n_columns(code: CodeColumns) -> int:
    """Return the number of columns of a code."""
    return len(_summaries(code)) + bool(code.texts)


def _summaries(code: CodeColumns) -> list[tuple[str, int | None]]:
    """Return the statistics of a code, each with the position of its span."""
    if code.kind == "fact":
        return [("last", None)]
    if code.kind == "flag":
        return [("seen", None)]
    if code.kind == "code":
        return [("seen", None), ("hours since", None), *[("count", span) for span in code.spans]]
    summaries: list[tuple[str, int | None]] = [("last", None), ("from usual", None), ("hours since", None)]
    for span in code.spans:
        included = {"first": span == code.spans[-1], "slope": span in code.slopes}
        summaries += [(name, span) for name in STATISTICS if included.get(name, True)]
    return summaries


def _targets(code: CodeColumns, position: int, spans: Sequence[str | None]) -> list[Target]:
    units = dict.fromkeys(("count", "from usual", "seen")) | {"hours since": "h", "slope": code.unit and f"{code.unit} per hour"}
    columns = []
    for statistic, span in _summaries(code):
        name = code.name if code.kind == "fact" else f"{code.name}: {statistic}"
        suffix = "" if span is None or spans[span] is None else f", {spans[span]}"
        column = Column(name + suffix, unit=units.get(statistic, code.unit), block=code.block)
        columns.append(Target(column, position, statistic, span))
    return columns
