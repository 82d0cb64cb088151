"""The ledger of a job: a folder of small JSON files that is the truth, whatever engine works on it and however often it is killed.

``ledger/job.json``
    The model's hash and the options, fixed by whoever came first.
``ledger/file-00007.json``
    The eighth table: its name, size, time of change and rows; or why it cannot be read.
``ledger/part-00007-000003.json``
    The sidecar of a shard, written last: the hash of its output and what was counted; or why it failed.
``ledger/part-00007-000003.claim``
    Somebody has begun this shard. A hint that puts it last for others, no lock: work done twice gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nearward.batch.sharding import Shard, Source, cut, fingerprint, header
from nearward.tabular.data.atomic_files import create_atomic, remove_abandoned, write_atomic
from nearward.tabular.errors import ArtifactError, InputError, MissingColumns

FORMAT = 1


@dataclass(frozen=True)
class Options:
    """What must stay the same from one run of a job to the next.

    Parameters
    ----------
    model : str
        The model's hash.
    schema : "plain" or "meds"
    threshold : float
        Risk from which on a row counts as flagged.
    needs : tuple of str
        Columns that every table must have.
    reads : tuple of str
        Columns that the model reads: features, and the user's own scores.
    id : str or None
        The column that names the rows; None where the archive has none, and rows are known by table and number.
    features : tuple of (path, size, time of change)
        Tables that label rows draw their features from; empty where the tables themselves hold them.
    """

    model: str
    schema: str
    threshold: float
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    id: str | None
    features: tuple[tuple[str, int, int], ...] = ()


class JobStore:
    """A job's folder, opened.

    Parameters
    ----------
    out : Path
        Where the scores lie; the ledger is in its folder ``ledger``.
    """

    def __init__(self, out: Path) -> None:
        self.out, self.folder = out, out / "ledger"
        held = _read(self.folder / "job.json")
        if held is None or held.get("nearward_scores") != FORMAT:
            raise ArtifactError(f"{self.folder} is not the ledger of a scoring job of this version: choose another folder, or --restart")
        self.job, self.shard_rows = str(held["job"]), int(held["shard_rows"])
        told = held["options"]
        features = tuple((str(path), int(size), int(changed)) for path, size, changed in told["features"])
        self.options = Options(
            told["model"], told["schema"], told["threshold"], tuple(told["needs"]), tuple(told["reads"]), told["id"], features
        )

    def tables(self) -> list[dict[str, Any]]:
        """Return what is known of each table, in order."""
        out: list[dict[str, Any]] = []
        while (held := _read(self._table(len(out)))) is not None and held.get("job") == self.job:
            out.append(held)
        return out

    def shards(self) -> list[Shard]:
        """Return the plan: every shard of every table that can be read."""
        return [
            shard for file, table in enumerate(self.tables()) if "error" not in table for shard in cut(file, table["rows"], self.shard_rows)
        ]

    def output(self, shard: Shard) -> Path:
        """Where a shard's scores lie."""
        return self.out / f"{shard.name}.parquet"

    def done(self, shard: Shard) -> dict[str, Any] | None:
        """Return a shard's sidecar if it is done: there, of this job, and its hash holds."""
        held = _read(self.folder / f"{shard.name}.json")
        if held is None or held.get("job") != self.job or "error" in held:
            return None
        try:
            content = self.output(shard).read_bytes()
        except FileNotFoundError:
            return None
        return held if hashlib.sha256(content).hexdigest() == held["sha256"] else None

    def failure(self, shard: Shard) -> str | None:
        """Return why a shard failed when it was last tried."""
        held = _read(self.folder / f"{shard.name}.json")
        return None if held is None or held.get("job") != self.job else held.get("error")

    def keep(self, shard: Shard, content: bytes, counted: Mapping[str, Any]) -> None:
        """Commit a shard's output, then its sidecar.

        Raises
        ------
        OSError
            The output folder cannot be written.
        """
        write_atomic(self.output(shard), content)
        facts = {"job": self.job, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content), **asdict(shard), **counted}
        write_atomic(self.folder / f"{shard.name}.json", _json(facts))

    def fail(self, shard: Shard, why: str) -> None:
        """Write down why a shard failed; an output of an earlier try that nothing vouches for goes."""
        write_atomic(self.folder / f"{shard.name}.json", _json({"job": self.job, **asdict(shard), "error": why}))
        self.output(shard).unlink(missing_ok=True)

    def claim(self, shard: Shard) -> bool:
        """Say that this shard is begun; False where somebody else has said so before."""
        try:
            handle = os.open(self._claim(shard), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return False
        os.close(handle)
        return True

    def release(self, shard: Shard) -> None:
        """Take a claim back."""
        self._claim(shard).unlink(missing_ok=True)

    def enter(self, sources: Sequence[Source]) -> None:
        """Enter tables that are not in the ledger yet, and look again at those that could not be read.

        Raises
        ------
        InputError
            A table that was already scored, in part or in whole, has changed since.
        """
        place = 0
        known = {table["path"]: (file, table) for file, table in enumerate(self.tables())}
        for source in sources:
            if str(source.path) in known:
                self._look_again(*known[str(source.path)], source)
                continue
            facts = _json(self._facts(source))
            while not create_atomic(self._table(place), facts):
                held = _read(self._table(place)) or {}
                if held.get("job") != self.job:  # left by a job that was restarted: nobody's
                    write_atomic(self._table(place), facts)
                    break
                if held["path"] == str(source.path):
                    break
                place += 1
            place += 1

    def tidy(self) -> None:
        """Remove what no plan knows: temporary files of the dead, claims, and parts of a job that was restarted."""
        names = [path.name for path in self.out.iterdir()]  # before the plan is read: what is entered meanwhile is not in it
        written = [path.name for path in self.folder.iterdir()]
        known = {shard.name for shard in self.shards()}
        remove_abandoned(self.out)
        remove_abandoned(self.folder)
        for name in names:
            if name.startswith("part-") and name.removesuffix(".parquet") not in known:
                (self.out / name).unlink(missing_ok=True)
        tables = len(self.tables())
        for name in written:
            stem = name.partition(".")[0]
            foreign = name.endswith(".json") and (_read(self.folder / name) or {}).get("job") != self.job
            over = name.endswith(".claim") and f"{stem}.json" in written  # its owner died between sidecar and release
            if (
                over
                or (stem.startswith("part-") and stem not in known)
                or (stem.startswith("file-") and int(stem[5:]) >= tables and foreign)
            ):
                (self.folder / name).unlink(missing_ok=True)

    def _facts(self, source: Source) -> dict[str, Any]:
        about: dict[str, Any] = {"job": self.job, "name": source.name, "path": str(source.path)}
        try:
            about["size"], about["changed"] = fingerprint(source.path)
            about["rows"], schema = header(source.path)
            missing = [name for name in self.options.needs if name not in schema]
            if missing:
                raise MissingColumns(missing, schema.names())
        except InputError as error:
            return {**about, "error": str(error)}
        return about

    def _look_again(self, file: int, held: Mapping[str, Any], source: Source) -> None:
        facts = self._facts(source)
        if facts == {**held, "name": source.name}:
            return
        if "error" not in held and any(self.done(shard) for shard in cut(file, held["rows"], self.shard_rows)):
            raise InputError(f"{held['name']} has changed since it was scored into {self.out}: score it into another folder, or --restart")
        write_atomic(self._table(file), _json({**facts, "name": held["name"]}))

    def _table(self, file: int) -> Path:
        return self.folder / f"file-{file:05d}.json"

    def _claim(self, shard: Shard) -> Path:
        return self.folder / f"{shard.name}.claim"


def open_job_store(out: Path, options: Options, shard_rows: int, restart: bool = False) -> JobStore:
    """Open a job's ledger, made where there is none.

    Parameters
    ----------
    out : Path
    options : Options
    shard_rows : int
        Rows a shard where the job is new; a job that goes on keeps its own.
    restart : bool
        Begin anew; what is there is void from then on.

    Raises
    ------
    InputError
        The folder holds something else, or a job with another model or other options.
    OSError
        It cannot be written.
    """
    folder = out / "ledger"
    if out.is_file():
        raise InputError(f"{out} is a file: a job's scores are a folder")
    if out.is_dir() and any(out.iterdir()) and not folder.is_dir():
        raise InputError(f"{out} is not empty and holds no scoring job: choose another folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = _json({"nearward_scores": FORMAT, "job": secrets.token_hex(8), "shard_rows": shard_rows, "options": asdict(options)})
    path = folder / "job.json"
    if restart:
        write_atomic(path, fresh)
    else:
        create_atomic(path, fresh)
    ledger = JobStore(out)
    for what, held, asked in _differences(ledger.options, options):
        raise InputError(
            f"{out} was begun with another {what} ({held}, now {asked}): choose another folder, or --restart to score all anew"
        )
    return ledger


def _differences(held: Options, asked: Options) -> Iterator[tuple[str, str, str]]:
    names = {
        "model": "model",
        "schema": "--schema",
        "threshold": "--threshold",
        "needs": "set of columns",
        "id": "id column",
        "features": "table of features",
    }
    for field, name in names.items():
        was, now = getattr(held, field), getattr(asked, field)
        if was != now:
            shown = ("changed", "since") if field in ("needs", "features") else (str(was)[:12], str(now)[:12])
            yield name, *shown


def _read(path: Path) -> dict[str, Any] | None:
    """Read a JSON file of the ledger; None where there is none, or where it is no JSON: such a shard is simply not done."""
    try:
        held = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return held if isinstance(held, dict) else None


def _json(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, sort_keys=True, ensure_ascii=True, allow_nan=False, indent=1).encode() + b"\n"
