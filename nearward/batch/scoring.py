"""Scoring of one shard, from reading its rows to committing its scores: the work of every engine's workers.

Shapes: q rows of the shard.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from nearward.batch.job_store import JobStore
from nearward.batch.meds import LABEL, PREDICTION_TIME, SUBJECT, features_as_of, key_columns, predictions
from nearward.batch.records import JobOptions, ShardCounts, TableRecord
from nearward.batch.sharding import Shard, read_shard
from nearward.event_model.code_drift import counts_as_json
from nearward.event_model.sources import read_sources
from nearward.tabular.data.parquet_files import read_header, unchanged
from nearward.tabular.errors import ArtifactError, InputError

NOVEL = 0.99  # novelty above which a row counts as outside the training population


@dataclass(frozen=True)
class Scores:
    """A model's scores of q rows.

    Parameters
    ----------
    columns : pl.DataFrame, q rows: risk, low, high, n_similar, novelty, vote
    anomalies : rows by kind and column, see ``nearward.risk_model.data_warnings.count_anomalies``
    bins : rows by column and bin, for drift; empty where the model was saved without bins
    """

    columns: pl.DataFrame
    anomalies: dict[str, dict[str, int]]
    bins: dict[str, list[int]]


class LoadedModel:
    """A model folder, loaded once for many shards.

    Parameters
    ----------
    folder : path
    index : actors that hold the shards of the model's index, optional

    Attributes
    ----------
    digest : str, the model's hash
    event_model : EventRisk or None
        None where the model reads features.

    Raises
    ------
    ArtifactError
        The model is unusable, or was replaced while it was being read.
    InputError
        The model has more than two classes.
    """

    def __init__(self, folder: str | Path, index: Sequence[Any] = ()) -> None:
        from nearward.evaluation.drift import bins_from_json
        from nearward.event_model.event_risk import EventRisk
        from nearward.loading import load
        from nearward.tabular.persistence.artifact import loading, model_hash, read_manifest

        self.digest = model_hash(folder)
        bins = read_manifest(folder).get("bins")
        with loading(folder):
            self._bins = () if bins is None else bins_from_json(bins)
        model = load(folder)
        self.event_model = model if isinstance(model, EventRisk) else None
        self._classifier = model.model_ if isinstance(model, EventRisk) else model
        n_classes = len(self._classifier.classes_)
        if n_classes > 2:
            raise InputError(
                f"scoring jobs need a model of one event, this model has {n_classes} classes: score one table at a time into a file "
                "(--out shares.parquet)"
            )
        if model_hash(folder) != self.digest:
            raise ArtifactError(f"{folder} was replaced while it was being read: run again")
        if index:
            from nearward.index_actors import divide_index

            self._classifier.fitted_ = divide_index(self._classifier.fitted_, index)

    def score(self, frame: pl.DataFrame) -> Scores:
        """Score q rows of raw columns."""
        from nearward.risk_model.data_warnings import count_anomalies
        from nearward.tabular.preprocessing.feature_blocks import add_missing_blocks

        classifier = self._classifier
        rows = classifier.schema_.conform(add_missing_blocks(frame, classifier.schema_))
        anomalies = count_anomalies(rows, classifier.schema_, classifier.fitted_.model.table_encoder)
        bins = {column.column: column.counted(rows.get_column(column.column)).tolist() for column in self._bins}
        return Scores(pl.DataFrame(classifier._score(rows).columns(classifier.classes_)), anomalies, bins)


def score_shard(store: JobStore, shard: Shard, model: LoadedModel) -> None:
    """Score and commit a shard unless it is done already.

    Raises
    ------
    InputError
        The rows cannot be read or scored; recorded in the store first.
    ArtifactError
        The model is not the job's.
    FolderTakenOver
        Another job has the folder.
    OSError
        The output is not writable.
    """
    if store.is_done(shard):
        return
    if model.digest != store.options.model:
        raise ArtifactError("the model was replaced while the job ran: put the old one back, or --restart")
    try:
        frame, counts = _score_rows(store.options, store.table(shard.file), shard, model)
    except InputError as error:
        store.save_error(shard, str(error))
        raise
    content = io.BytesIO()
    metadata = {"nearward.model": store.options.model, "nearward.schema": store.options.schema}
    frame.write_parquet(content, compression="zstd", metadata=metadata)
    store.save_result(shard, content.getvalue(), counts)


def _score_rows(options: JobOptions, table: TableRecord, shard: Shard, model: LoadedModel) -> tuple[pl.DataFrame, ShardCounts]:
    """Return a shard's output and its counts."""
    if options.events:
        return _score_events(table, options, shard, model)
    if options.schema == "meds":
        return _score_labels(table, options, shard, model)
    path = Path(table.path)
    with unchanged(path, (table.size, table.changed)):
        frame = read_shard(path, options.needs, shard)
    scores = model.score(frame.select(options.reads))
    if options.id is None:
        ids = pl.int_range(shard.offset, shard.offset + shard.rows, eager=True).alias("row")
    else:
        ids = frame.get_column(options.id)
        ids = ids.alias("row_id") if ids.name in ("file", *scores.columns.columns) else ids
    files = pl.repeat(table.name, shard.rows, eager=True).alias("file")
    return pl.DataFrame([files, ids, *scores.columns.get_columns()]), _count(scores, 0, options.threshold)


def _score_labels(table: TableRecord, options: JobOptions, shard: Shard, model: LoadedModel) -> tuple[pl.DataFrame, ShardCounts]:
    """Score MEDS labels; the risk of a label without features is null."""
    path = Path(table.path)
    with unchanged(path, (table.size, table.changed)):
        label = [LABEL] if LABEL in read_header(path)[1] else []
        labels = read_shard(path, [*dict.fromkeys([*options.needs, *label])], shard)
    keys = key_columns(labels)
    if options.features:
        with ExitStack() as checks:
            paths = [Path(name) for name, _, _ in options.features]
            for feature_path, (_, size, changed) in zip(paths, options.features, strict=True):
                checks.enter_context(unchanged(feature_path, (size, changed)))
            features, has_features = features_as_of(keys, paths, options.reads)
    else:
        features, has_features = labels.select(options.reads), pl.repeat(True, labels.height, dtype=pl.Boolean, eager=True)
    risk = np.full(shard.rows, np.nan)
    scores = model.score(features.filter(has_features)) if has_features.any() else None
    if scores is not None:
        risk[has_features.to_numpy()] = scores.columns.get_column("risk").to_numpy()
    output = predictions(keys, pl.Series("risk", risk).fill_nan(None), options.threshold)
    return output, _count(scores, shard.rows - int(has_features.sum()), options.threshold)


def _score_events(table: TableRecord, options: JobOptions, shard: Shard, model: LoadedModel) -> tuple[pl.DataFrame, ShardCounts]:
    """Score MEDS labels by the events before them; a label without events has a risk, too."""
    path = Path(table.path)
    with ExitStack() as checks:
        checks.enter_context(unchanged(path, (table.size, table.changed)))
        for name, size, changed in options.features:
            checks.enter_context(unchanged(Path(name), (size, changed)))
        label = [LABEL] if LABEL in read_header(path)[1] else []
        labels = read_shard(path, [*dict.fromkeys([*options.needs, *label])], shard)
        if model.event_model is None:
            raise ArtifactError("the model does not read events: put the job's model back, or --restart")
        known, features, counts = model.event_model.transform_counted(read_sources(options.events, model.event_model.columns), labels)
    scores = model.score(features)
    outcome = pl.col(LABEL) if LABEL in known.columns else pl.lit(None, dtype=pl.Boolean).alias(LABEL)
    output = predictions(known.select(SUBJECT, PREDICTION_TIME, outcome), scores.columns.get_column("risk"), options.threshold)
    return output, replace(_count(scores, 0, options.threshold), events=counts_as_json(counts))


def _count(scores: Scores | None, without_features: int, threshold: float) -> ShardCounts:
    if scores is None:
        return ShardCounts(0, 0, 0, without_features, 0.0, {}, {})
    risk, novelty = scores.columns.get_column("risk"), scores.columns.get_column("novelty")
    flagged, novel = int((risk >= threshold).sum()), int((novelty > NOVEL).sum())
    return ShardCounts(len(risk), flagged, novel, without_features, float(risk.sum()), scores.anomalies, scores.bins)
