"""The summary of a job's scores: flagged rows, novel rows, anomalies, and the drift of each column.

It is computed from the sidecars alone, so it does not depend on the order of the work: the same shards give the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from nearward.batch.job_store import JobStore
from nearward.batch.records import ShardCounts
from nearward.batch.scoring import NOVEL
from nearward.batch.sharding import Shard
from nearward.event_model.code_drift import CodeDrift, drift_of_codes, event_rows, total_of_shards
from nearward.tabular.data.atomic_files import write_atomic
from nearward.tabular.data.limited_reading import read_at_most
from nearward.tabular.errors import InputError
from nearward.tabular.events.code_columns import code_of_column, list_counts
from nearward.tabular.persistence.artifact import read_manifest

if TYPE_CHECKING:
    from nearward.evaluation.stats.confidence import Estimate

FORMAT = 1
SUMMARY = "summary.json"
_NO_BINS = "no drift: the model was saved without training bins. Load it and save it again with this version of nearward"
_MOST_IDS = 5_000_000  # rows whose ids are compared: 8 bytes each
_ANOMALIES = {  # field of ``JobSummary`` -> its kind in the sidecars, its label in the table
    "unit_slips": ("unit slips", "values over 32 times outside the training range"),
    "gaps": ("gaps", "missing where no training value was missing"),
    "unseen_categories": ("unseen", "categories that no training patient had"),
    "unknown_codes": ("unknown codes", "lists without a code of the model's, in all rows of a shard"),
    "missing_blocks": ("blocks", "feature blocks missing in every row of a shard"),
}


@dataclass(frozen=True)
class ColumnDrift:
    """The drift of one column against the training rows.

    Parameters
    ----------
    column : str
    psi, low, high : float, population stability index and its interval
    by_chance : float, 95 % quantile of the index without drift
    moved : bool
    """

    column: str
    psi: float
    low: float
    high: float
    by_chance: float
    moved: bool


@dataclass(frozen=True)
class JobSummary:
    """The scores of a job in figures.

    Parameters
    ----------
    model : str, the model's hash
    schema : "plain" or "meds"
    threshold : float
    rows, scored, without_features, flagged, novel : int, rows
    expected_events : float, sum of the risks
    novel_from : float, novelty above which a row counts as novel
    flagged_share, novel_share : Estimate or None, of the rows scored
    unit_slips, gaps, unseen_categories, unknown_codes, missing_blocks : rows by column or block
    repeated_ids : int or None, rows whose id another row has; None where ids are not compared
    failed : (shard or table, why) of everything that could not be scored
    drift : tuple of ColumnDrift, the largest first
    drift_note : str or None, why there is no drift
    events : counts of events before the labels' times, by what became of them; empty where the model reads features
    codes : tuple of CodeDrift, those with a slip of units first
    """

    model: str
    schema: str
    threshold: float
    rows: int
    scored: int
    without_features: int
    flagged: int
    novel: int
    expected_events: float
    novel_from: float
    flagged_share: Estimate | None
    novel_share: Estimate | None
    unit_slips: dict[str, int]
    gaps: dict[str, int]
    unseen_categories: dict[str, int]
    missing_blocks: dict[str, int]
    repeated_ids: int | None
    failed: tuple[tuple[str, str], ...]
    drift: tuple[ColumnDrift, ...]
    drift_note: str | None
    events: dict[str, int] = field(default_factory=dict)
    codes: tuple[CodeDrift, ...] = ()
    unknown_codes: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the summary as a JSON object."""
        record = asdict(self)
        note = record.pop("drift_note")
        record["drift"] = {"columns": list(record["drift"])} if note is None else {"note": note}
        record["failed"] = [{"what": what, "why": why} for what, why in self.failed]
        return {"nearward_summary": FORMAT, **record}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> JobSummary:
        """Read a summary from its JSON object."""
        from nearward.evaluation.stats.confidence import Estimate

        values = {key: value for key, value in record.items() if key != "nearward_summary"}
        for name in ("flagged_share", "novel_share"):
            values[name] = None if record[name] is None else Estimate(**record[name])
        values["failed"] = tuple((failure["what"], failure["why"]) for failure in record["failed"])
        values["drift"] = tuple(ColumnDrift(**column) for column in record["drift"].get("columns", []))
        values["codes"] = tuple(CodeDrift(**code) for code in record.get("codes", []))
        return cls(**values, drift_note=record["drift"].get("note"))


def summarize(store: JobStore, done: Mapping[Shard, ShardCounts], model: Path, failed: Sequence[tuple[str, str]]) -> JobSummary:
    """Summarize the shards that are done.

    Parameters
    ----------
    store : JobStore
    done : the counts of the shards that are done, in the plan's order
    model : path of the model's folder, whose training bins drift is measured against
    failed : (shard or table, why) of everything that could not be scored
    """
    from nearward.evaluation.stats.confidence import wilson

    counts, rows = list(done.values()), sum(shard.rows for shard in done)
    scored, flagged, novel = (sum(getattr(count, name) for count in counts) for name in ("scored", "flagged", "novel"))
    drift, events = _drift(model, counts), total_of_shards([count.events for count in counts])
    return JobSummary(
        model=store.options.model,
        schema=store.options.schema,
        threshold=store.options.threshold,
        rows=rows,
        scored=scored,
        without_features=sum(count.without_features for count in counts),
        flagged=flagged,
        novel=novel,
        expected_events=sum(count.expected_events for count in counts),
        novel_from=NOVEL,
        flagged_share=wilson(flagged, scored) if scored else None,
        novel_share=wilson(novel, scored) if scored else None,
        **{name: _total([count.anomalies.get(kind, {}) for count in counts]) for name, (kind, _) in _ANOMALIES.items()},
        repeated_ids=None if store.options.id is None or rows > _MOST_IDS else _repeated_ids([store.output(shard) for shard in done]),
        failed=tuple(failed),
        drift=drift or (),
        drift_note=_NO_BINS if drift is None else None,
        events={} if events is None else events.summary(),
        codes=() if events is None else drift_of_codes(model, events),
    )


def write_summary(summary: JobSummary, store: JobStore) -> None:
    """Write a summary into the folder of the scores."""
    content = json.dumps(summary.to_json(), sort_keys=True, allow_nan=False, indent=1).encode() + b"\n"
    write_atomic(store.out / SUMMARY, content, store.check_current)


def read_summary(folder: Path) -> JobSummary:
    """Read a job's summary.

    Raises
    ------
    InputError
        The folder has no summary, or one of another version.
    """
    path = folder / SUMMARY
    try:
        record = json.loads(read_at_most(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a job's summary: {type(error).__name__}. Give folders that nearward score wrote") from error
    if not isinstance(record, dict) or record.get("nearward_summary") != FORMAT:
        raise InputError(f"{path} is not a job's summary of this version")
    try:
        return JobSummary.from_json(record)
    except (AttributeError, LookupError, TypeError) as error:
        raise InputError(f"{path} is damaged: score its tables again") from error


def summary_table(summary: JobSummary) -> pl.DataFrame:
    """Return a summary as a table to print."""
    rows = [
        ("rows scored", f"{summary.scored}"),
        ("expected events (sum of risks)", f"{summary.expected_events:.1f}"),
        (f"flagged (risk from {summary.threshold:.4g})", f"{summary.flagged}{_with_interval(summary.flagged_share)}"),
        (
            f"novel (novelty above {summary.novel_from:g}; one in a hundred is expected)",
            f"{summary.novel}{_with_interval(summary.novel_share)}",
        ),
    ]
    for name, (_, label) in _ANOMALIES.items():
        counts: dict[str, int] = getattr(summary, name)
        if counts:
            rows.append((label, list_counts(counts)))
    rows += event_rows(summary.events)
    if summary.without_features:
        rows.append(("labels without features up to their time (risk null)", str(summary.without_features)))
    if summary.repeated_ids:
        rows.append(("rows with an id that another row has", str(summary.repeated_ids)))
    return pl.DataFrame(rows, schema=["what", "found"], orient="row")


def drift_table(columns: Sequence[ColumnDrift], most: int = 10) -> pl.DataFrame:
    """Return the drift of the columns with the largest index as a table to print; of a code of events, only the column that moved most."""
    codes: dict[str, list[ColumnDrift]] = {}
    for column in columns:
        codes.setdefault(code_of_column(column.column), []).append(column)
    rows = []
    for column, *others in list(codes.values())[:most]:
        more = sum(other.moved for other in others)
        verdict = "moved" + (f", and {more} more of its code" if more else "")
        interval = f"{column.psi:.3f} ({column.low:.3f} to {column.high:.3f})"
        rows.append((column.column, interval, f"{column.by_chance:.3f}", verdict if column.moved else ""))
    return pl.DataFrame(rows, schema=["column", "PSI", "19 in 20 by chance below", "verdict"], orient="row")


def name_runs(folders: Sequence[Path]) -> dict[str, Path]:
    """Return folders of runs by their names; by their paths where two have the same name.

    Raises
    ------
    InputError
        The same folder twice.

    Examples
    --------
    >>> list(name_runs([Path("scores-monday"), Path("out/scores-tuesday")]))
    ['scores-monday', 'scores-tuesday']
    >>> list(name_runs([Path("monday/scores"), Path("tuesday/scores")]))
    ['monday/scores', 'tuesday/scores']
    """
    if len(set(folders)) < len(folders):
        raise InputError(f"the runs must differ, got {[str(folder) for folder in folders]}")
    names = [folder.name or str(folder) for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return dict(zip(names, folders, strict=True))


def compare_runs(runs: Sequence[tuple[str, JobSummary]]) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Compare the summaries of successive runs.

    Returns
    -------
    runs : one row for each run: rows, flagged, novel, columns that moved, codes of events that changed
    moved : PSI by run of every column that moved in any of them; None where none did
    """
    rows, moved = [], dict[str, None]()
    for name, summary in runs:
        moved_now = [column.column for column in summary.drift if column.moved]
        moved |= dict.fromkeys(moved_now)
        rows.append(
            {
                "run": name,
                "model": summary.model[:8],
                "rows": summary.scored,
                "flagged": "" if summary.flagged_share is None else f"{summary.flagged_share.value:.2%}",
                "novel": "" if summary.novel_share is None else f"{summary.novel_share.value:.2%}",
                "unit slips": sum(summary.unit_slips.values()),
                "columns that moved": len(moved_now) if summary.drift else None,
                "codes that changed": sum(code.moved or code.slip for code in summary.codes) if summary.codes else None,
            }
        )
    if not moved:
        return pl.DataFrame(rows), None
    psi: dict[str, list[Any]] = {"column": list(moved)}
    for number, (name, summary) in enumerate(runs, start=1):
        by_column = {column.column: column.psi for column in summary.drift}
        psi[name if name not in psi else f"{name} ({number})"] = [by_column.get(column) for column in moved]
    return pl.DataFrame(rows), pl.DataFrame(psi)


def _drift(model: Path, counts: Sequence[ShardCounts]) -> tuple[ColumnDrift, ...] | None:
    """Return the drift of the columns, the largest first; None where the model has no training bins."""
    from nearward.evaluation.drift import bins_from_json, drift

    record = read_manifest(model).get("bins")
    if record is None:
        return None
    columns = []
    for bins in bins_from_json(record):
        by_shard = [count.bins[bins.column] for count in counts if bins.column in count.bins]
        rows = np.asarray(np.sum(by_shard, axis=0), dtype=np.int64)
        if rows.sum():
            change = drift(bins.count, rows)
            psi = change.psi
            columns.append(ColumnDrift(bins.column, psi.value, psi.low, psi.high, change.by_chance, change.moved))
    return tuple(sorted(columns, key=lambda column: (-column.psi, column.column)))


def _repeated_ids(outputs: Sequence[Path]) -> int:
    """Count rows of the shards' outputs whose id another row has already."""
    hashes = [pl.read_parquet(path, columns=[1], glob=False).to_series().cast(pl.String).hash(0).to_numpy() for path in outputs]
    return sum(map(len, hashes)) - len(np.unique(np.concatenate(hashes))) if hashes else 0


def _total(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return dict(sum((Counter(count) for count in counts), Counter()))


def _with_interval(share: Estimate | None) -> str:
    return "" if share is None else f", {share.value:.2%} ({share.low:.2%} to {share.high:.2%})"
