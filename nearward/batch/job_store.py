"""The state of a scoring job: a folder of small JSON files, the only source of truth for every engine, also after crashes.

``ledger/job.json``
    The model's hash and the options, written once.
``ledger/file-00007.json``
    The eighth table: its name, size, modification time and rows; or why it cannot be read.
``ledger/part-00007-000003.json``
    The sidecar of a shard, written last: the hash of its output and its counts; or why it failed.
``ledger/part-00007-000003.claim``
    A process has started this shard. A hint that other jobs leave it for last, not a lock: scoring it twice gives the same bytes.

A job may find at any moment that ``--restart`` has given its folder to another job. It therefore compares its id with that in ``job.json``
right before it renames or removes a file, and removes only files that a job has written: by their exact name, their sidecar or metadata.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nearward.batch.records import JobOptions, ShardCounts, TableRecord
from nearward.batch.sharding import Shard, Source, is_scores, split_into_shards
from nearward.tabular.data.atomic_files import create_atomic, remove_abandoned, write_atomic
from nearward.tabular.data.limited_reading import TooLarge, read_at_most
from nearward.tabular.data.parquet_files import fingerprint, read_header
from nearward.tabular.errors import ArtifactError, FolderTakenOver, InputError, require_columns

FORMAT = 2
FOLDER = "ledger"
_JOB = "job.json"
_OUTPUT = re.compile(r"(?P<shard>part-(?P<file>\d{5,})-\d{6,})\.parquet")
_SHARD_RECORD = re.compile(r"(?P<shard>part-(?P<file>\d{5,})-\d{6,})\.(?P<kind>json|claim)")
_TABLE_RECORD = re.compile(r"file-(?P<file>\d{5,})\.json")
_OPTION_NAMES = {
    "model": "model",
    "schema": "--schema",
    "threshold": "--threshold",
    "needs": "set of columns",
    "id": "id column",
    "features": "table of features or events",
    "events": "path of events",
}


def has_job(out: Path) -> bool:
    """Whether a folder holds a scoring job."""
    return (out / FOLDER / _JOB).is_file()


def open_job_store(out: Path, options: JobOptions, shard_rows: int, restart: bool = False) -> JobStore:
    """Open a job's store, created where there is none.

    Parameters
    ----------
    out : Path
    options : JobOptions
    shard_rows : int
        Rows of a shard in a new job; a job that is resumed keeps its own.
    restart : bool
        Start a new job; the old job's results become invalid.

    Raises
    ------
    InputError
        The folder holds other files, or a job with another model or other options.
    OSError
        The folder is not writable.
    """
    folder = out / FOLDER
    if out.is_file():
        raise InputError(f"{out} is a file: --out of a scoring job must be a folder")
    if not has_job(out) and _has_other_files(out, folder):
        raise InputError(f"{out} is not empty and holds no scoring job: choose another folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = _to_bytes({"nearward_scores": FORMAT, "job": secrets.token_hex(8), "shard_rows": shard_rows, "options": asdict(options)})
    if restart:
        record = _read(folder / _JOB)
        if record is not None and "nearward_scores" not in record:
            raise InputError(f"{folder / _JOB} is another program's file: choose another folder")
        write_atomic(folder / _JOB, content)
    else:
        create_atomic(folder / _JOB, content)
    store = JobStore(out)
    _check_same_options(out, store.options, options)
    return store


class JobStore:
    """The store of an existing job.

    Parameters
    ----------
    out : Path
        Folder of the scores; the store is its sub-folder ``ledger``.
    job_id : str, optional
        The job that is expected in the folder.

    Raises
    ------
    ArtifactError
        The folder holds no job of this version.
    FolderTakenOver
        It holds another job than the expected one. Every method that writes or removes a file raises this, too.
    """

    def __init__(self, out: Path, job_id: str | None = None) -> None:
        self.out, self.folder = out, out / FOLDER
        record = _read(self.folder / _JOB)
        if record is None or record.get("nearward_scores") != FORMAT:
            raise ArtifactError(f"{self.folder} is not the ledger of a scoring job of this version: choose another folder, or --restart")
        try:
            self.job_id, self.shard_rows = str(record["job"]), int(record["shard_rows"])
            self.options = JobOptions.from_json(record["options"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{self.folder / _JOB} is damaged: choose another folder, or --restart") from error
        if job_id not in (None, self.job_id):
            raise FolderTakenOver(out)

    def check_current(self) -> None:
        """Check that the folder still belongs to this job.

        Raises
        ------
        FolderTakenOver
        """
        if (_read(self.folder / _JOB) or {}).get("job") != self.job_id:
            raise FolderTakenOver(self.out)

    def add_tables(self, sources: Sequence[Source]) -> None:
        """Record new tables, and read those again that could not be read before.

        Raises
        ------
        InputError
            A table changed after some or all of it had been scored.
        """
        known = {table.path: (file, table) for file, table in enumerate(self.tables())}
        file = 0
        for source in sources:
            if str(source.path) in known:
                self._update_table(*known[str(source.path)], source)
                continue
            content = self._table_content(self._inspect(source))
            while not create_atomic(self._table_path(file), content):
                record = self._read_table(file)
                if record is None:  # damaged, or a leftover of a job that was restarted
                    write_atomic(self._table_path(file), content, self.check_current)
                    break
                if record.path == str(source.path):  # a concurrent job has added it
                    break
                file += 1
            file += 1

    def tables(self) -> list[TableRecord]:
        """Return the records of the tables, in order."""
        records: list[TableRecord] = []
        while (record := self._read_table(len(records))) is not None:
            records.append(record)
        return records

    def table(self, file: int) -> TableRecord:
        """Return the record of one table."""
        record = self._read_table(file)
        if record is None:
            self.check_current()
            raise ArtifactError(f"{self._table_path(file)} is missing or damaged: run the same command again")
        return record

    def shards(self) -> list[Shard]:
        """Return the plan: all shards of all tables that can be read."""
        tables = enumerate(self.tables())
        return [shard for file, table in tables if table.error is None for shard in split_into_shards(file, table.rows, self.shard_rows)]

    def output(self, shard: Shard) -> Path:
        """Return the path of a shard's scores."""
        return self.out / f"{shard.name}.parquet"

    def sidecar(self, shard: Shard) -> Path:
        """Return the path of a shard's sidecar."""
        return self.folder / f"{shard.name}.json"

    def counts(self, shard: Shard) -> ShardCounts | None:
        """Return the counts of a shard that is done: its sidecar exists, belongs to this job, and the output has the recorded hash."""
        record = _read(self.sidecar(shard))
        if record is None or record.get("job") != self.job_id or "error" in record:
            return None
        try:
            counts, digest = ShardCounts.from_json(record["counts"]), record["sha256"]
            content = read_at_most(self.output(shard), int(record["size"]))
        except (FileNotFoundError, TooLarge, KeyError, TypeError, ValueError):
            return None
        return counts if hashlib.sha256(content).hexdigest() == digest else None

    def is_done(self, shard: Shard) -> bool:
        """Whether a shard is done, see ``counts``."""
        return self.counts(shard) is not None

    def save_result(self, shard: Shard, content: bytes, counts: ShardCounts) -> None:
        """Write a shard's output, then its sidecar.

        Raises
        ------
        OSError
            The output folder is not writable.
        """
        write_atomic(self.output(shard), content, self.check_current)
        digest = hashlib.sha256(content).hexdigest()
        record = {"job": self.job_id, "sha256": digest, "size": len(content), **asdict(shard), "counts": asdict(counts)}
        write_atomic(self.sidecar(shard), _to_bytes(record), self.check_current)

    def save_error(self, shard: Shard, error: str) -> None:
        """Record why a shard failed, and remove an output of an earlier attempt."""
        write_atomic(self.sidecar(shard), _to_bytes({"job": self.job_id, **asdict(shard), "error": error}), self.check_current)
        self._remove(self.output(shard))

    def claim(self, shard: Shard) -> bool:
        """Mark a shard as started; return False where another process has marked it."""
        self.check_current()
        try:
            descriptor = os.open(self._claim_path(shard), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return False
        os.close(descriptor)
        return True

    def release(self, shard: Shard) -> None:
        """Remove a claim."""
        self._remove(self._claim_path(shard))

    def clean_up(self) -> None:
        """Remove temporary files of dead processes, claims of finished shards, and files of a job that was restarted."""
        remove_abandoned(self.out)
        remove_abandoned(self.folder)
        outputs = [match for path in self.out.iterdir() if (match := _OUTPUT.fullmatch(path.name))]
        records = {path.name for path in self.folder.iterdir()}  # listed before the plan is read: tables added meanwhile are not in it
        planned, n_tables = {shard.name for shard in self.shards()}, len(self.tables())
        for match in outputs:
            if match["shard"] not in planned and self._is_stale_output(match, n_tables):
                self._remove(self.out / match[0])
        for name in records:
            if match := _SHARD_RECORD.fullmatch(name):
                finished_claim = match["kind"] == "claim" and f"{match['shard']}.json" in records  # the process died before the release
                unplanned = match["shard"] not in planned and (int(match["file"]) < n_tables or self._is_foreign(name))
                stale = finished_claim or unplanned
            else:
                match = _TABLE_RECORD.fullmatch(name)
                stale = match is not None and int(match["file"]) >= n_tables and self._is_foreign(name)
            if stale:
                self._remove(self.folder / name)

    def _is_stale_output(self, match: re.Match[str], n_tables: int) -> bool:
        """Whether a job has written this unplanned output: an earlier job, or this one for a table that has changed since."""
        sidecar = _read(self.folder / f"{match['shard']}.json")
        if sidecar is None:  # the process died between the output and its sidecar
            return is_scores(self.out / match[0])
        return sidecar.get("job") != self.job_id or int(match["file"]) < n_tables

    def _is_foreign(self, name: str) -> bool:
        """Whether a record is another job's; the records of this job stay, also where its list of tables is damaged."""
        return (_read(self.folder / name) or {}).get("job") != self.job_id

    def _remove(self, path: Path) -> None:
        self.check_current()
        path.unlink(missing_ok=True)

    def _inspect(self, source: Source) -> TableRecord:
        record = TableRecord(source.name, str(source.path))
        try:
            size, changed = fingerprint(source.path)
            record = replace(record, size=size, changed=changed)
            rows, schema = read_header(source.path)
            record = replace(record, rows=rows)
            require_columns(self.options.needs, schema.names())
        except InputError as error:
            return replace(record, error=str(error))
        return record

    def _read_table(self, file: int) -> TableRecord | None:
        """Return the record of a table, None where it is missing, damaged or another job's."""
        record = _read(self._table_path(file))
        if record is None or record.pop("job", None) != self.job_id:
            return None
        try:
            return TableRecord.from_json(record)
        except (KeyError, TypeError, ValueError):
            return None

    def _update_table(self, file: int, old: TableRecord, source: Source) -> None:
        new = replace(self._inspect(source), name=old.name)
        if new == old:
            return
        if old.error is None and any(self.is_done(shard) for shard in split_into_shards(file, old.rows, self.shard_rows)):
            raise InputError(f"{old.name} has changed since it was scored into {self.out}: score it into another folder, or --restart")
        write_atomic(self._table_path(file), self._table_content(new), self.check_current)

    def _table_content(self, table: TableRecord) -> bytes:
        return _to_bytes({"job": self.job_id, **asdict(table)})

    def _table_path(self, file: int) -> Path:
        return self.folder / f"file-{file:05d}.json"

    def _claim_path(self, shard: Shard) -> Path:
        return self.folder / f"{shard.name}.claim"


def _has_other_files(out: Path, folder: Path) -> bool:
    """Whether a folder holds files that no job has written; a job that died before it wrote ``job.json`` leaves an empty ledger."""
    paths = [path for parent in (out, folder) if parent.is_dir() for path in parent.iterdir()]
    return any(path != folder and not (path.name.startswith(f".{_JOB}.") and path.name.endswith(".part")) for path in paths)


def _check_same_options(out: Path, old: JobOptions, new: JobOptions) -> None:
    for field, name in _OPTION_NAMES.items():
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            values = "" if field in ("needs", "features", "events") else f" ({str(before)[:12]}, now {str(after)[:12]})"
            raise InputError(f"{out} was begun with another {name}{values}: choose another folder, or --restart to score everything again")


def _read(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None where the file is missing, too large or not valid JSON: its shard then counts as not done."""
    try:
        record = json.loads(read_at_most(path))
    except (FileNotFoundError, TooLarge, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _to_bytes(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, ensure_ascii=True, allow_nan=False, indent=1).encode() + b"\n"
