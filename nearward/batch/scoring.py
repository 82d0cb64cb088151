"""One shard, from rows to committed scores: what every engine's worker does.

Letters: q rows of the shard.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl

from nearward.batch.job_store import JobStore, Options
from nearward.batch.meds import KNOWN, features_as_of, key_columns, predictions
from nearward.batch.sharding import Shard, fingerprint, header, read_range
from nearward.tabular.errors import ArtifactError, InputError

STRANGE = 0.99  # novelty from which on a row lies outside the training population


@dataclass(frozen=True)
class Scored:
    """What a model says of q rows.

    Parameters
    ----------
    columns : pl.DataFrame, q rows: risk, low, high, n_similar, novelty, vote
    odd : rows by kind and column that hold what no training row held
    bins : rows by column and bin, for drift; empty where the model was saved without bins
    """

    columns: pl.DataFrame
    odd: dict[str, dict[str, int]]
    bins: dict[str, list[int]]


class Scorer(Protocol):
    """A loaded model."""

    model: str  # its hash

    def score(self, frame: pl.DataFrame) -> Scored:
        """Score q rows of raw columns."""
        ...


class LoadedModel:
    """A model folder, loaded once for many shards.

    Parameters
    ----------
    folder : path

    Raises
    ------
    ArtefactError
        Unusable, or replaced while it was being read.
    """

    def __init__(self, folder: str | Path) -> None:
        from nearward.evaluation.drift import bins_from_json
        from nearward.risk_model.classifier import load
        from nearward.tabular.persistence.artifact import model_hash, read_manifest

        self.model = model_hash(folder)
        held = read_manifest(folder).get("bins")
        self._bins = () if held is None else bins_from_json(held)
        self._fitted = load(folder)
        if len(self._fitted.classes_) > 2:
            raise InputError(
                f"a scoring job is for one event, and this model has {len(self._fitted.classes_)} classes: name a file to write "
                "(--out shares.parquet), one table at a time"
            )
        if model_hash(folder) != self.model:
            raise ArtifactError(f"{folder} was replaced while it was being read: run again")

    def score(self, frame: pl.DataFrame) -> Scored:
        """Score q rows of raw columns."""
        from nearward.risk_model.classifier import score_columns
        from nearward.risk_model.data_warnings import count_anomalies
        from nearward.tabular.data.feature_blocks import fill_lacking

        fitted = self._fitted
        rows = fitted.schema_.conform(fill_lacking(frame, fitted.schema_))
        odd = count_anomalies(rows, fitted.schema_, fitted._model.encoding)
        bins = {one.column: one.counted(rows.get_column(one.column)).tolist() for one in self._bins}
        return Scored(pl.DataFrame(score_columns(fitted._score(rows), fitted.classes_)), odd, bins)


def score_shard(ledger: JobStore, shard: Shard, scorer: Scorer) -> int:
    """Score a shard and commit it; return its rows. A shard that is done already is left as it is.

    Raises
    ------
    InputError
        The rows cannot be read or scored; written into the ledger first.
    ArtefactError
        The model is not the job's.
    OSError
        The output cannot be written.
    """
    if ledger.done(shard):
        return shard.rows
    if scorer.model != ledger.options.model:
        raise ArtifactError("the model was replaced while the job ran: put the old one back, or --restart")
    table = ledger.tables()[shard.file]
    try:
        frame, counted = _scores(ledger, table, shard, scorer)
    except InputError as error:
        ledger.fail(shard, str(error))
        raise
    content = io.BytesIO()
    metadata = {"nearward.model": ledger.options.model, "nearward.schema": ledger.options.schema}
    frame.write_parquet(content, compression="zstd", metadata=metadata)
    ledger.keep(shard, content.getvalue(), counted)
    return shard.rows


def _scores(ledger: JobStore, table: dict[str, Any], shard: Shard, scorer: Scorer) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return a shard's output and what was counted on the way."""
    path, options = Path(table["path"]), ledger.options
    if list(fingerprint(path)) != [table["size"], table["changed"]]:
        raise InputError("it has changed since the job was planned: run again")
    if options.schema == "meds":
        keys, frame, found = _label_rows(path, shard, options)
        told = scorer.score(frame.filter(found)) if found.any() else None
        risk = np.full(shard.rows, np.nan)
        if told is not None:
            risk[found.to_numpy()] = told.columns.get_column("risk").to_numpy()
        out = predictions(keys, pl.Series("risk", risk).fill_nan(None), options.threshold)
        return out, {"unfound": shard.rows - int(found.sum()), **_counts(told, options.threshold)}
    frame = read_range(path, options.needs, shard)
    told = scorer.score(frame.select(options.reads))
    if options.id is None:
        known_as = pl.int_range(shard.offset, shard.offset + shard.rows, eager=True).alias("row")
    else:
        known_as = frame.get_column(options.id)
        known_as = known_as.alias("row_id") if known_as.name in ("file", *told.columns.columns) else known_as
    named = pl.repeat(table["name"], shard.rows, eager=True).alias("file")
    return pl.DataFrame([named, known_as, *told.columns.get_columns()]), {"unfound": 0, **_counts(told, options.threshold)}


def _label_rows(path: Path, shard: Shard, options: Options) -> tuple[pl.DataFrame, pl.DataFrame, pl.Series]:
    """Read MEDS rows: keys, features, and which rows have any."""
    known = [KNOWN] if KNOWN in header(path)[1] else []
    frame = read_range(path, [*dict.fromkeys([*options.needs, *known])], shard)
    keys = key_columns(frame)
    if options.features:
        return keys, *features_as_of(keys, [Path(table) for table, _, _ in options.features], options.reads)
    return keys, frame.select(options.reads), pl.repeat(True, frame.height, dtype=pl.Boolean, eager=True)


def _counts(told: Scored | None, threshold: float) -> dict[str, Any]:
    if told is None:
        return {"scored": 0, "flagged": 0, "strange": 0, "risk": 0.0, "odd": {}, "bins": {}}
    risk, novelty = told.columns.get_column("risk"), told.columns.get_column("novelty")
    return {
        "scored": len(risk),
        "flagged": int((risk >= threshold).sum()),
        "strange": int((novelty > STRANGE).sum()),
        "risk": float(risk.sum()),
        "odd": told.odd,
        "bins": told.bins,
    }
