"""What a scoring job is asked for, and what follows from it and the model: options, and the tables to score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nearward.batch.meds import PREDICTION_TIME, SUBJECT
from nearward.batch.records import JobOptions
from nearward.batch.sharding import Source, find_tables
from nearward.event_model.sources import KIND, event_folders
from nearward.tabular.data.parquet_files import fingerprint, is_utf8, printable, read_header
from nearward.tabular.errors import InputError
from nearward.tabular.persistence.artifact import loading, model_hash, read_manifest, read_schema


@dataclass(frozen=True)
class ScoringJob:
    """What to score, and how.

    Parameters
    ----------
    model : path of the model's folder
    tables : paths of Parquet files, or of folders of them
        Of a model of events: MEDS folders or files of events.
    out : path of the folder for the scores
    schema : "plain" or "meds"
    labels : path, optional
        MEDS labels: a Parquet file or a folder of them; ``tables`` then hold the features, or the events.
    threshold : float, optional
        Risk from which on a row counts as flagged; by default the event rate that the model expects.
    workers : int, optional
        One per core by default.
    max_memory : float, bytes, optional
        Limit for all processes together; actors of an index are not counted.
    shard_rows : int, optional
    engine : "local" or "ray"
    address : str, optional
        Address of a Ray cluster.
    restart : bool
        Discard the scores in ``out`` and start again.
    shard_seconds : float, optional
        Limit for one shard: a worker that takes longer is killed, and the shard tried once more. None: workers are waited for.
    index_actors : bool, optional
        With Ray: whether the model's index is divided over actors; by default where it exceeds the memory of a cluster's smallest node.
    """

    model: Path
    tables: tuple[Path, ...]
    out: Path
    schema: str = "plain"
    labels: Path | None = None
    threshold: float | None = None
    workers: int | None = None
    max_memory: float | None = None
    shard_rows: int | None = None
    engine: str = "local"
    address: str | None = None
    restart: bool = False
    shard_seconds: float | None = None
    index_actors: bool | None = None


def read_options(job: ScoringJob) -> tuple[JobOptions, list[Source]]:
    """Derive the job's options from its arguments and the model, and list the tables.

    Raises
    ------
    ArtifactError
        ``model`` is not a model.
    InputError
        Invalid or contradicting arguments, or nothing to score.
    """
    if job.schema not in ("plain", "meds"):
        raise InputError(f"--format must be plain or meds, got {job.schema}")
    if job.engine not in ("local", "ray"):
        raise InputError(f"--engine must be local or ray, got {job.engine}")
    if job.engine == "local" and (job.address is not None or job.index_actors is not None):
        raise InputError("--address and --index-actors are for --engine ray")
    if job.shard_seconds is not None and not 0 < job.shard_seconds < float("inf"):
        raise InputError(f"--shard-minutes must be positive, got {job.shard_seconds / 60:g}")
    if job.threshold is not None and not 0 <= job.threshold <= 1:
        raise InputError(f"--threshold must be a risk from 0 to 1, got {job.threshold}")
    digest, manifest = model_hash(job.model), read_manifest(job.model)
    of_events = manifest.get("kind") == KIND
    if of_events and not job.labels:
        raise InputError("the model reads events: --labels must name the subjects and moments of prediction")
    if job.labels and job.schema != "meds" and not of_events:
        raise InputError("--labels are MEDS labels: add --format meds")
    _refuse_own_output(job)
    tables = find_tables(event_folders(job.tables) if of_events else job.tables)
    sources = find_tables([job.labels]) if job.labels else tables
    schema = read_schema(manifest)
    reads = schema.named("feature", "expert")
    plain = job.schema == "plain" and not of_events
    id_column = _shared_column(schema.named("id"), sources) if plain else None
    with loading(job.model):
        training = manifest["summary"]["fields"]
        event_rate = float(manifest["config"]["prevalence"] or training["events"] / training["rows"])
        subject = dict(manifest["source_columns"] or {}).get(SUBJECT, SUBJECT) if of_events else SUBJECT
    subject = SUBJECT if subject == SUBJECT else _shared_column([subject], sources) or SUBJECT
    keys = () if plain else (subject, PREDICTION_TIME)
    needs = dict.fromkeys([*keys, *(() if job.labels else reads), *([id_column] if id_column else [])])
    threshold = event_rate if job.threshold is None else job.threshold
    features = tuple((str(table.path), *fingerprint(table.path)) for table in tables) if job.labels else ()
    events = tuple(str(path.resolve()) for path in job.tables) if of_events else ()
    layout = "plain" if plain else "meds"
    return JobOptions(digest, layout, float(threshold), tuple(needs), reads, id_column, features, events), sources


def require_utf8(job: ScoringJob) -> None:
    """Check the names of the model, the output and folders of features, which Polars opens by name."""
    for name, path in (("model", job.model), ("--out", job.out), *(("table", table) for table in job.tables if job.labels)):
        if not is_utf8(path.absolute()):
            raise InputError(f"{name}: the name {printable(path)} is not UTF-8: rename it")


def _refuse_own_output(job: ScoringJob) -> None:
    for path in (*job.tables, *([job.labels] if job.labels else [])):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        if path.is_dir() and job.out.resolve().is_relative_to(path.resolve()):
            raise InputError(f"--out {job.out} lies in {path}: the next run would score its own scores. Choose a folder beside it")


def _shared_column(names: Sequence[str], sources: Sequence[Source]) -> str | None:
    """Return the first of some columns if the tables have it: the first readable table decides, and the others must have it too."""
    for name in names:
        for source in sources:
            try:
                return name if name in read_header(source.path)[1] else None
            except InputError:  # the job store records the error of this table
                continue
    return None
