"""What a job's scores say as a whole: rows flagged, rows unlike any stored patient, slips of units, drift of each column.

It is put together from the sidecars alone, so it does not depend on who scored what when: the same shards give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from nearward.batch.job_store import JobStore
from nearward.batch.scoring import STRANGE
from nearward.tabular.data.atomic_files import write_atomic
from nearward.tabular.errors import InputError
from nearward.tabular.persistence.artifact import read_manifest

FORMAT = 1
SUMMARY = "summary.json"
_NO_BINS = "no drift: the model was saved without training bins. Load it and save it again with this version of nearward"
_MOST_IDS = 5_000_000  # rows whose ids are compared: 8 bytes each


def write_summary(
    ledger: JobStore, sidecars: Sequence[Mapping[str, Any]], model: Path, failed: Sequence[tuple[str, str]], keep: bool = True
) -> dict[str, Any]:
    """Sum up the shards that are done, and put it beside the scores.

    Parameters
    ----------
    ledger : Ledger
    sidecars : of the shards that are done, in the plan's order
    model : path of the model's folder, whose training bins drift is measured against
    failed : what could not be scored, and why
    keep : bool
        Whether to write it.

    Raises
    ------
    OSError
        It cannot be written.
    """
    from nearward.evaluation.stats.confidence import wilson

    scored = sum(one["scored"] for one in sidecars)
    told: dict[str, Any] = {
        "nearward_summary": FORMAT,
        "model": ledger.options.model,
        "schema": ledger.options.schema,
        "threshold": ledger.options.threshold,
        "rows": sum(one["rows"] for one in sidecars),
        "scored": scored,
        "without_features": sum(one["unfound"] for one in sidecars),
        "expected_events": sum(one["risk"] for one in sidecars),
        "flagged": sum(one["flagged"] for one in sidecars),
        "novel": sum(one["strange"] for one in sidecars),
        "novel_from": STRANGE,
        "failed": [{"what": what, "why": why} for what, why in failed],
    }
    for share, count in (("flagged_share", "flagged"), ("novel_share", "novel")):
        found = wilson(told[count], scored) if scored else None
        told[share] = None if found is None else {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
    for kind, name in (("unit slips", "unit_slips"), ("gaps", "gaps"), ("unseen", "unseen_categories"), ("blocks", "missing_blocks")):
        told[name] = _total([one["odd"].get(kind, {}) for one in sidecars])
    told["repeated_ids"] = _repeated_ids(ledger, sidecars)
    told["drift"] = _drift(model, sidecars)
    if keep:
        write_atomic(ledger.out / SUMMARY, json.dumps(told, sort_keys=True, allow_nan=False, indent=1).encode() + b"\n")
    return told


def summary_table(told: Mapping[str, Any]) -> pl.DataFrame:
    """Return a summary as a table for a person to read."""
    shares = {name: told[name] for name in ("flagged_share", "novel_share")}
    words = {name: "" if e is None else f"{e['value']:.2%} ({e['low']:.2%} to {e['high']:.2%})" for name, e in shares.items()}
    rows = [
        ("rows scored", f"{told['scored']}"),
        ("expected events (sum of risks)", f"{told['expected_events']:.1f}"),
        (f"flagged (risk from {told['threshold']:.4g})", f"{told['flagged']}, {words['flagged_share']}"),
        (f"novel (novelty above {told['novel_from']:g}; one in a hundred does by nature)", f"{told['novel']}, {words['novel_share']}"),
    ]
    for name, label in (
        ("unit_slips", "values over 32 times outside the training range"),
        ("gaps", "missing where no training patient missed"),
        ("unseen_categories", "categories no training patient had"),
        ("missing_blocks", "a whole block missing in every row of a shard"),
    ):
        if told[name]:
            rows.append((label, ", ".join(f"{column}: {count}" for column, count in told[name].items())))
    if told["without_features"]:
        rows.append(("labels of subjects nothing was known of yet (risk null)", str(told["without_features"])))
    if told["repeated_ids"]:
        rows.append(("ids that repeat another row's", str(told["repeated_ids"])))
    return pl.DataFrame(rows, schema=["what", "found"], orient="row")


def drift_table(told: Mapping[str, Any]) -> pl.DataFrame | None:
    """Return the drift of each column, the largest first; None where the model knows no training bins."""
    columns = told["drift"].get("columns")
    if not columns:
        return None
    rows = [
        (
            one["column"],
            f"{one['psi']:.3f} ({one['low']:.3f} to {one['high']:.3f})",
            f"{one['by_chance']:.3f}",
            "moved" if one["moved"] else "",
        )
        for one in columns
    ]
    return pl.DataFrame(rows, schema=["column", "PSI", "19 in 20 by chance below", "verdict"], orient="row")


def read_summary(folder: Path) -> dict[str, Any]:
    """Read a job's summary.

    Raises
    ------
    InputError
        None there, or not this version's.
    """
    path = folder / SUMMARY
    try:
        held = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a job's summary: {type(error).__name__}. Give folders that nearward score wrote") from error
    if not isinstance(held, dict) or held.get("nearward_summary") != FORMAT:
        raise InputError(f"{path} is not a job's summary of this version")
    return held


def over_runs(named: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Put summaries of successive runs beside each other.

    Returns
    -------
    runs : one row a run: rows, flagged, novel, columns that moved
    moved : PSI a run of every column that moved in any of them; None where none did
    """
    rows, columns = [], dict[str, None]()
    for name, told in named:
        drifted = [one["column"] for one in told["drift"].get("columns", []) if one["moved"]]
        columns |= dict.fromkeys(drifted)
        rows.append(
            {
                "run": name,
                "model": told["model"][:8],
                "rows": told["scored"],
                "flagged": _percent(told["flagged_share"]),
                "novel": _percent(told["novel_share"]),
                "unit slips": sum(told["unit_slips"].values()),
                "columns that moved": len(drifted) if told["drift"].get("columns") else None,
            }
        )
    if not columns:
        return pl.DataFrame(rows), None
    shown: dict[str, list[Any]] = {"column": list(columns)}
    for place, (name, told) in enumerate(named, start=1):
        held = {one["column"]: one["psi"] for one in told["drift"].get("columns", [])}
        shown[f"{name}" if f"{name}" not in shown else f"{name} ({place})"] = [held.get(column) for column in columns]
    return pl.DataFrame(rows), pl.DataFrame(shown)


def _percent(share: Mapping[str, Any] | None) -> str:
    return "" if share is None else f"{share['value']:.2%}"


def _total(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    out: dict[str, int] = {}
    for part in parts:
        for column, count in part.items():
            out[column] = out.get(column, 0) + count
    return out


def _drift(model: Path, sidecars: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    from nearward.evaluation.drift import bins_from_json, drift

    held = read_manifest(model).get("bins")
    if held is None:
        return {"note": _NO_BINS}
    columns = []
    for bins in bins_from_json(held):
        now = np.zeros(len(bins.count), dtype=np.int64)
        for one in sidecars:
            now += np.array(one["bins"].get(bins.column, np.zeros_like(now)))
        if not now.sum():
            continue
        found = drift(bins.count, now)
        psi = found.psi
        columns.append(
            {"column": bins.column, "psi": psi.value, "low": psi.low, "high": psi.high, "by_chance": found.by_chance, "moved": found.moved}
        )
    return {"columns": sorted(columns, key=lambda one: (-one["psi"], one["column"]))}


def _repeated_ids(ledger: JobStore, sidecars: Sequence[Mapping[str, Any]]) -> int | None:
    """Count rows whose id another row has already; None where there are no ids, or too many rows to compare."""
    if ledger.options.id is None or sum(one["rows"] for one in sidecars) > _MOST_IDS:
        return None
    seen = []
    for one in sidecars:
        path = ledger.out / f"part-{one['file']:05d}-{one['part']:06d}.parquet"
        seen.append(pl.read_parquet(path, columns=[1], glob=False).to_series().cast(pl.String).hash(0).to_numpy())
    return sum(map(len, seen)) - len(np.unique(np.concatenate(seen))) if seen else 0
