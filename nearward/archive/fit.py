"""``fit_archive``: a risk model of a table that memory does not hold.

A weighted sample of the rows teaches, as in ``RiskClassifier.fit`` of a large table; all rows are indexed, block by block. What is finished
lies in ``<out>.partial/``: a fit that was killed goes on there, and gives the same model.

Shapes: n rows of the archive, t rows that teach, m others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from sklearn.base import clone

from nearward import __version__
from nearward.archive.budget import Budget, plan_budget
from nearward.archive.rows import ArchiveRows, stored_records
from nearward.archive.work_folder import WorkFolder
from nearward.batch.memory import read_size
from nearward.risk_model.binary import fit_risk
from nearward.risk_model.classifier import RiskClassifier, check_settings, make_config
from nearward.risk_model.data_warnings import warn_of_leakage
from nearward.risk_model.effort import count_steps, find_effort
from nearward.risk_model.multiclass import fit_classes
from nearward.risk_model.persistence import FittedState, save_records
from nearward.risk_model.teaching_sample import TeachingSample, choose_teaching_sample, deal_patients, number_patients
from nearward.risk_model.user_experts import split_experts
from nearward.risk_model.validation import MOST_CLASSES, check_class_sizes, resolve_schema
from nearward.tabular.archive.files import Archive, Source, open_archive
from nearward.tabular.archive.inference import infer_schema, read_through
from nearward.tabular.archive.row_keys import RowKeys, read_row_keys
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.validation import describe_event, seed_of
from nearward.tabular.errors import require_columns
from nearward.tabular.parallel import cpu_count, limit_jobs
from nearward.tabular.parallel import engine as parallel_engine
from nearward.tabular.persistence.artifact import check_folder
from nearward.tabular.progress import logged
from nearward.tabular.typing import Bools, Ints, Progress


@dataclass(frozen=True)
class Roles:
    """What some columns of an archive are; see ``fit_archive``."""

    outcome: str
    group: str | None = None
    id: str | None = None
    site: str | None = None
    drop: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def fit_archive(
    source: Source,
    out: str | Path,
    *,
    outcome: str,
    group: str | None = None,
    id: str | None = None,
    site: str | None = None,
    drop: Sequence[str] = (),
    category: Sequence[str] = (),
    missing: str | Sequence[str] = (),
    model: RiskClassifier | None = None,
    max_memory: str | float | None = None,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    workers: int | None = None,
) -> RiskClassifier:
    """Fit a risk model on Parquet files of any number of rows, and save it in a folder.

    Beyond ``Effort.teaching_rows`` (about 100,000) the model learns from the events and a sample of the other patients, weighted, so that
    its risks are those of the whole archive; every patient is indexed. An archive of fewer rows gives the model of ``RiskClassifier.fit``.
    What is finished is in ``<out>.partial/``: after a kill the same call goes on there. A model that is in ``out`` stays until the new one
    is complete.

    Parameters
    ----------
    source : path, sequence of paths, or pl.LazyFrame
        A Parquet file, a folder (with hive partitions), a pattern with ``*``, or several. A lazy frame's rows are written to the work
        folder first. Rows are in the order of the files' paths.
    out : path of the model's folder
    outcome : str, column of two values, or up to ten classes
    group : str, optional
        Column of the patients, who may have rows in several files; by default every row is a patient of its own.
    id, site : str, optional
        Columns of row ids, and of sites: strata of the sample.
    drop, category : sequences of str
        Columns to leave out; columns of numbers that are codes.
    missing : str or sequence of str
        Texts that are read as missing, as in ``Schema.infer``.
    model : RiskClassifier, optional
        The parameters of the fit, ``positive``, ``schema`` and ``random_state`` among them. It is not changed.
    max_memory : str or float, optional
        Limit such as ``"6GB"``, or bytes: of this process, without the pages of mapped files. Blocks are chosen by it.
    engine, address, workers : optional
        As ``nearward.tabular.parallel.engine``: where folds and encoders are fitted.

    Returns
    -------
    RiskClassifier : the saved model, loaded

    Raises
    ------
    InputError
        Files that differ in columns or dtypes, missing outcomes, a file that changes meanwhile: the message names files, columns and
        counts; a memory limit that cannot be met: it says what is needed.
    TooFewEvents
        Fewer than 10 events.
    OSError
        The disk is full: free some space and call again.

    Examples
    --------
    >>> import tempfile
    >>> from nearward.datasets import ward
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ward(400).table.drop("hospital").write_parquet(f"{folder}/stays.parquet")
    ...     quick = RiskClassifier(effort="fast", backbone=None)
    ...     fitted = fit_archive(f"{folder}/*.parquet", f"{folder}/model", outcome="died", group="patient", id="stay", model=quick)
    >>> fitted.summary_.rows
    400
    """
    from nearward.loading import load_classifier

    out, settings = Path(out), clone(RiskClassifier() if model is None else model)
    roles = Roles(outcome, group, id, site, tuple(drop), tuple(category), (missing,) if isinstance(missing, str) else tuple(missing))
    limit = read_size(max_memory) if isinstance(max_memory, str) else max_memory
    check_folder(out)
    progress = logged(settings.verbose, __name__)
    with parallel_engine(engine, address=address, workers=workers), limit_jobs(settings.n_jobs), WorkFolder(out) as work:
        archive = open_archive(source, work.path)
        state, records = _fit(archive, roles, settings, limit, work, progress)
        save_records(settings.get_params(deep=False), state, out, records)
        work.remove()
    return load_classifier(out)


def _fit(
    archive: Archive, roles: Roles, settings: RiskClassifier, limit: float | None, work: WorkFolder, progress: Progress
) -> tuple[FittedState, pl.LazyFrame]:
    experts = split_experts(settings.experts)[0]
    named = [roles.outcome, roles.group, roles.id, roles.site, *roles.drop, *roles.category, *experts]
    require_columns(named, archive.columns)
    effort = check_settings(settings)
    columns = len(archive.columns) - len({roles.outcome, roles.group, roles.id, roles.site, *roles.drop} - {None})
    budget = plan_budget(archive.rows, effort.teaching_rows, columns, settings.effort, cpu_count(), limit)
    seed = _begin(archive, roles, settings, budget, work, progress)
    keys = read_row_keys(archive, roles.outcome, settings.positive, roles.group, roles.id, roles.site, MOST_CLASSES)
    check_class_sizes(keys.target)
    sample = choose_teaching_sample(keys.target.outcome, keys.patient_ids, effort.teaching_rows, seed, keys.site)
    taught = np.ones(archive.rows, dtype=bool) if sample is None else _mask(sample.rows, archive.rows)
    progress(_described(archive, roles.outcome, keys, int(taught.sum()), budget, settings.effort))
    schema, frame = _read_sample(archive, roles, settings, keys, taught, budget, work, progress)
    return _fit_sample(archive, schema, frame, settings, keys, sample, taught, seed, budget, work, progress)


def _begin(archive: Archive, roles: Roles, settings: RiskClassifier, budget: Budget, work: WorkFolder, progress: Progress) -> int:
    """Say whether an unfinished fit goes on, and return the seed."""
    parameters = settings.get_params()
    ignored = dict.fromkeys(("verbose", "n_jobs", "schema"))
    plan = {
        "version": __version__,
        "archive": archive.fingerprint(),
        "roles": asdict(roles),
        "schema": None if settings.schema is None else settings.schema.to_json(),
        "parameters": {name: repr(value) for name, value in (parameters | ignored).items()},
        "block_rows": budget.block_rows,
    }
    earlier = work.has_other_plan
    if work.begin(plan):
        progress(f"goes on with the unfinished fit in {work.path}")
    elif earlier:
        progress("the files or the options have changed since the unfinished fit: begins anew")
    drawn = seed_of(settings.random_state) or settings.seed or 0
    return int(work.remembered("seed", (), lambda: drawn))


def _mask(rows: Ints, n: int) -> Bools:
    mask = np.zeros(n, dtype=bool)
    mask[rows] = True
    return mask


def _described(archive: Archive, outcome: str, keys: RowKeys, taught: int, budget: Budget, effort: str) -> str:
    files = f"{len(archive.files)} file{'s' * (len(archive.files) > 1)}"
    learns = "learns from all" if taught == archive.rows else f"learns from {taught}, indexes all"
    return (
        f"{archive.rows} rows in {files}, {keys.patients} patients, {keys.target.events} events "
        f"({outcome} is {describe_event(keys.target.event)}); {learns}; expected: {budget.spelled()}, on {cpu_count()} CPUs"
    )


def _read_sample(
    archive: Archive,
    roles: Roles,
    settings: RiskClassifier,
    keys: RowKeys,
    taught: Bools,
    budget: Budget,
    work: WorkFolder,
    progress: Progress,
) -> tuple[Schema, pl.DataFrame]:
    """Return the schema of all rows, and the rows that teach, as they are in the archive."""
    read = work.part("schema"), work.part("sample")
    if read[0] is not None and read[1] is not None:
        return Schema.read(read[0]), pl.read_parquet(read[1])
    schema = settings.schema or infer_schema(archive, keys.patient_ids, roles.drop, roles.category, roles.missing)
    schema = schema.with_roles(ignore=[name for name in roles.drop if name in {column.name for column in schema.columns}])
    schema = schema.with_roles(outcome=roles.outcome, id=roles.id, group=roles.group, site=roles.site)
    schema = schema.with_roles(expert=split_experts(settings.experts)[0])
    inferred = settings.schema is None
    schema, frame = read_through(archive, schema, keys.patient_ids, taught, budget.block_rows, progress, inferred=inferred)
    work.save_part("sample", ".parquet", frame.write_parquet)
    work.save_part("schema", ".json", lambda path: path.write_text(schema.to_json(), encoding="utf-8"))
    return schema, frame


def _fit_sample(
    archive: Archive, schema: Schema, frame: pl.DataFrame, settings: RiskClassifier, keys: RowKeys, sample: TeachingSample | None,
    taught: Bools, seed: int, budget: Budget, work: WorkFolder, progress: Progress,
) -> tuple[FittedState, pl.LazyFrame]:  # fmt: skip
    """Learn from the rows of the sample (t) and index the others; returns the fitted state, and the records of all rows."""
    outcome, patient_ids, t = keys.target.outcome, keys.patient_ids, frame.height
    if sample is not None:  # the rows that teach come first, then all others
        patient_ids = number_patients(patient_ids[np.append(sample.rows, sample.others(archive.rows))])
    groups = schema.named("group")[0] if schema.named("group") else None
    schema, _ = resolve_schema(schema, frame, split_experts(settings.experts)[0], None if groups is None else frame.get_column(groups))
    rows = schema.conform(frame)
    warn_of_leakage(frame, rows, schema, outcome[taught], patient_ids[:t], seed)
    schema, config = make_config(settings, schema, rows, len(keys.target.classes), seed)
    teaching: dict[str, Any] = {"checkpoints": work}
    others = None
    if sample is not None:
        fold = deal_patients(outcome[~taught], patient_ids[t:], config.folds, seed)
        others = ArchiveRows(archive, schema, taught, outcome, patient_ids[t:], fold, budget.block_rows, work, progress)
        teaching |= {"weight": sample.weight, "others": others}
    fit_model: Any = fit_risk if len(keys.target.classes) == 2 else fit_classes
    fitted, summary = fit_model(schema, rows, outcome[taught], patient_ids[:t], config, progress, **teaching)
    records = stored_records(schema, frame, rows, outcome[taught], np.flatnonzero(taught))
    target, columns = keys.target, archive.columns
    state = FittedState(fitted, target.classes, target.event_index, target.event, schema, summary, records, columns, columns, patient_ids)
    return state, records.lazy() if others is None else others.records(records)


def count_archive_steps(archive: Archive, effort: str, max_memory: str | float | None = None) -> int:
    """Return how many steps ``fit_archive`` reports, where nothing is finished."""
    limit = read_size(max_memory) if isinstance(max_memory, str) else max_memory
    taught = find_effort(effort).teaching_rows
    block_rows = plan_budget(archive.rows, taught, len(archive.columns), effort, cpu_count(), limit).block_rows
    return count_steps(effort, RiskClassifier().folds) + len(archive.files) + (archive.rows > taught) * len(archive.blocks(block_rows))
