"""Which tables of a generator were audited: kept with the generator, so that a table's stamp says how many others were tried.

Each line of the file is the hash of a table, the seed and the number of its rows, and whether it passed. Whoever deletes the file deletes
the count: it informs, and is no proof.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from nearward.tabular.data.atomic_files import replacing
from nearward.tabular.errors import ArtifactError, DataWarning

FILE = "audits.jsonl"
_MAX_SIZE = 2**26  # bytes; some 300,000 tables


@dataclass(frozen=True)
class AuditedTable:
    """One audited table: sha256 of its values, the sample's seed, rows, and whether it passed."""

    sha256: str
    seed: int
    rows: int
    passed: bool


class AuditLog:
    """The audited tables of one generator.

    Parameters
    ----------
    folder : path, optional
        The generator's folder; without one the log is in memory until the generator is saved.
    tables : audited tables

    Examples
    --------
    >>> log = AuditLog()
    >>> log.add(AuditedTable("5f…", seed=0, rows=1000, passed=False))
    >>> log.add(AuditedTable("a1…", seed=1, rows=1000, passed=True))
    >>> log.counts()
    {'audited': 2, 'passed': 1}
    """

    def __init__(self, folder: str | Path | None = None, tables: tuple[AuditedTable, ...] = ()) -> None:
        self._path = None if folder is None else Path(folder) / FILE
        self.tables = list(tables)

    def add(self, table: AuditedTable) -> None:
        """Add a table, in the generator's folder too; the same table again counts once. Warns where the folder cannot be written."""
        if any(table.sha256 == other.sha256 for other in self.tables):
            return
        self.tables.append(table)
        if self._path is None:
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.write(_line(table))
        except OSError as error:
            warnings.warn(
                f"{self._path} cannot be written ({type(error).__name__}): later exports of this generator will not count this audit",
                DataWarning,
                stacklevel=3,
            )

    def counts(self) -> dict[str, int]:
        """Return how many different tables were audited, and how many of them passed."""
        return {"audited": len(self.tables), "passed": sum(table.passed for table in self.tables)}

    def save(self, folder: str | Path) -> None:
        """Write the log into the generator's folder, in the place of an earlier generator's."""
        self._path = Path(folder) / FILE
        with replacing(self._path) as temporary:
            temporary.write_bytes(b"".join(map(_line, self.tables)))

    @classmethod
    def load(cls, folder: str | Path) -> AuditLog:
        """Read the log in a generator's folder; empty where there is none.

        Raises
        ------
        ArtifactError
            The file is damaged.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            return cls(folder)
        try:
            if path.stat().st_size > _MAX_SIZE:
                raise ValueError
            tables = tuple(_read(line) for line in path.read_text(encoding="utf-8").splitlines())
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise ArtifactError(f"{path} is damaged: restore it from a copy, or delete it and its count of audits") from error
        return cls(folder, tables)


def _line(table: AuditedTable) -> bytes:
    return json.dumps(asdict(table), sort_keys=True).encode() + b"\n"


def _read(line: str) -> AuditedTable:
    table = AuditedTable(**json.loads(line))
    kinds = (str, int, int, bool)
    if any(type(value) is not kind for value, kind in zip(asdict(table).values(), kinds, strict=True)):
        raise ValueError
    return table
