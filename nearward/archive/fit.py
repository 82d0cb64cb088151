"""``fit_archive``: a risk model of a table that memory does not hold.

A weighted sample of the rows teaches, as in ``RiskClassifier.fit`` of a large table; all rows are indexed, block by block. What is finished
lies in ``<out>.partial/``: a fit that was killed goes on there, and gives the same model.

Shapes: n rows of the archive, t rows that teach, m others.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from sklearn.base import clone

from nearward import __version__
from nearward.archive.budget import Budget, plan_budget
from nearward.archive.rows import ArchiveRows, stored_records
from nearward.archive.work_folder import WorkFolder
from nearward.batch.memory import format_size, read_size
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
from nearward.tabular.data.validation import Target, describe_event, seed_of
from nearward.tabular.errors import DataWarning, require_columns
from nearward.tabular.operating_system import release_memory
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
        Columns to leave out; columns of numbers that are codes, where ``model`` has no schema.
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

    roles = Roles(outcome, group, id, site, tuple(drop), tuple(category), (missing,) if isinstance(missing, str) else tuple(missing))
    settings = RiskClassifier() if model is None else model
    fit_into_folder(source, Path(out), roles, settings, max_memory, engine=engine, address=address, workers=workers)
    return load_classifier(out)


def fit_into_folder(
    source: Source,
    out: Path,
    roles: Roles,
    settings: RiskClassifier,
    max_memory: str | float | None = None,
    *,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    workers: int | None = None,
) -> FittedState:
    """Fit and save a model as ``fit_archive`` does; returns its state with the records of the teaching sample alone."""
    check_folder(out)
    with parallel_engine(engine, address=address, workers=workers), limit_jobs(settings.n_jobs), WorkFolder(out) as work:
        archive, settings = open_archive(source, work.path), clone(settings)
        roles = _with_roles_of(settings.schema, roles)
        fit = _ArchiveFit(archive, roles, settings, _budget(archive, roles, settings, max_memory), work, _progress(settings))
        state, records = fit.run()
        save_records(settings.get_params(deep=False), state, out, records)
        work.remove()
    return state


def count_archive_steps(archive: Archive, settings: RiskClassifier, max_memory: str | float | None = None) -> int:
    """Return how many steps a fit reports, where nothing is finished; errors as ``plan_budget``."""
    taught = find_effort(settings.effort).teaching_rows
    blocks = archive.blocks(_budget(archive, Roles(""), settings, max_memory).block_rows)
    return count_steps(settings.effort, settings.folds) + len(archive.files) + (archive.rows > taught) * len(blocks)


def _with_roles_of(schema: Schema | None, roles: Roles) -> Roles:
    """Return roles with the columns of patients, row ids and sites that a schema declares, where they were not given."""
    declared: dict[str, Any] = {} if schema is None else {role: next(iter(schema.named(role)), None) for role in ("group", "id", "site")}
    return replace(roles, **{role: getattr(roles, role) or name for role, name in declared.items()})


def _progress(settings: RiskClassifier) -> Progress:
    """Return what is called after each step: it gives the step's memory back before the next one needs its own."""
    report = logged(settings.verbose, __name__)

    def progress(words: str) -> None:
        release_memory()
        report(words)

    return progress


def _budget(archive: Archive, roles: Roles, settings: RiskClassifier, max_memory: str | float | None) -> Budget:
    limit = read_size(max_memory) if isinstance(max_memory, str) else max_memory
    columns = len({*archive.columns} - {roles.outcome, roles.group, roles.id, roles.site, *roles.drop})
    return plan_budget(archive.rows, find_effort(settings.effort).teaching_rows, columns, settings.effort, cpu_count(), limit)


@dataclass(frozen=True)
class _ArchiveFit:
    """One fit of an archive: what it reads, by which parameters, within which budget, and where its finished parts lie."""

    archive: Archive
    roles: Roles
    settings: RiskClassifier
    budget: Budget
    work: WorkFolder
    progress: Progress

    def run(self) -> tuple[FittedState, pl.LazyFrame]:
        """Return the fitted state, which has the records of the teaching sample, and the records of all rows."""
        archive, roles, settings = self.archive, self.roles, self.settings
        named = [roles.outcome, roles.group, roles.id, roles.site, *roles.drop, *roles.category, *self._experts]
        require_columns(named, archive.columns)
        limits, seed = check_settings(settings), self._begin()
        keys = read_row_keys(archive, roles.outcome, settings.positive, roles.group, roles.id, roles.site, MOST_CLASSES)
        check_class_sizes(keys.target)
        sample = choose_teaching_sample(keys.target.outcome, keys.patient_ids, limits.teaching_rows, seed, keys.site)
        taught = np.ones(archive.rows, dtype=bool)
        if sample is not None:
            taught[sample.others(archive.rows)] = False
        self.progress(self._described(keys, int(taught.sum())))
        self._warn_of_a_small_disk()
        schema, frame = self._read_sample(keys.patient_ids, taught)
        target, patient_ids = keys.target, keys.patient_ids
        if sample is not None:  # the rows that teach come first, then all others
            patient_ids = number_patients(patient_ids[sample.order(archive.rows)])
        del keys  # memory grows with every column of numbers of all rows
        return self._learn(schema, frame, target, patient_ids, sample, taught, seed)

    @property
    def _experts(self) -> list[str]:
        return split_experts(self.settings.experts)[0]

    def _begin(self) -> int:
        """Say whether an unfinished fit goes on, and return the seed."""
        ignored = dict.fromkeys(("verbose", "n_jobs", "schema"))  # they do not change the model, or are compared as text
        plan = {
            "version": __version__,
            "archive": self.archive.fingerprint(),
            "roles": asdict(self.roles),
            "schema": None if self.settings.schema is None else self.settings.schema.to_json(),
            "parameters": {name: repr(value) for name, value in (self.settings.get_params() | ignored).items()},
            "block_rows": self.budget.block_rows,
        }
        earlier = self.work.has_plan
        if self.work.begin(plan):
            self.progress(f"goes on with the unfinished fit in {self.work.path}")
        elif earlier:
            self.progress("the files or the options have changed since the unfinished fit: begins anew")
        drawn = seed_of(self.settings.random_state) or self.settings.seed or 0
        return int(self.work.remembered("seed", (), lambda: drawn))

    def _described(self, keys: RowKeys, taught: int) -> str:
        archive, target = self.archive, keys.target
        files = f"{len(archive.files)} file{'s' * (len(archive.files) > 1)}"
        events = f"{len(target.classes)} classes"
        if len(target.classes) == 2:
            events = f"{target.events} events ({self.roles.outcome} is {describe_event(target.event)})"
        learns = "learns from all" if taught == archive.rows else f"learns from {taught}, indexes all"
        return (
            f"{archive.rows} rows in {files}, {keys.patients} patients, {events}; {learns}; expected: {self.budget.spelled()}, "
            f"on {cpu_count()} CPU{'s' * (cpu_count() > 1)}"
        )

    def _warn_of_a_small_disk(self) -> None:
        free, needed = shutil.disk_usage(self.work.path).free, 3 * self.budget.disk
        if free < needed:
            message = f"{format_size(free)} are free on the disk of {self.work.path}, and the fit needs about {format_size(needed)}"
            warnings.warn(message, DataWarning, stacklevel=4)

    def _read_sample(self, patient_ids: Ints, taught: Bools) -> tuple[Schema, pl.DataFrame]:
        """Return the schema of all rows, and the rows that teach, as they are in the archive."""
        saved = self.work.part("schema"), self.work.part("sample")
        if saved[0] is not None and saved[1] is not None:
            return Schema.read(saved[0]), pl.read_parquet(saved[1])
        roles, inferred = self.roles, self.settings.schema is None
        schema = self.settings.schema or infer_schema(self.archive, patient_ids, roles.drop, roles.category, roles.missing)
        schema = schema.with_roles(ignore=[name for name in roles.drop if name in {column.name for column in schema.columns}])
        schema = schema.with_roles(outcome=roles.outcome, id=roles.id, group=roles.group, site=roles.site, expert=self._experts)
        block_rows = self.budget.block_rows
        schema, frame = read_through(self.archive, schema, patient_ids, taught, block_rows, self.progress, inferred=inferred)
        self.work.save_part("sample", ".parquet", frame.write_parquet)
        self.work.save_part("schema", ".json", lambda path: path.write_text(schema.to_json(), encoding="utf-8"))
        return schema, frame

    def _learn(
        self,
        schema: Schema,
        frame: pl.DataFrame,
        target: Target,
        patient_ids: Ints,
        sample: TeachingSample | None,
        taught: Bools,
        seed: int,
    ) -> tuple[FittedState, pl.LazyFrame]:
        """Learn from the rows of the sample (t), and index the others; ``patient_ids`` (n,) of all rows as they are stored."""
        archive, outcome, t, group = self.archive, target.outcome, frame.height, self.roles.group
        schema, _ = resolve_schema(schema, frame, self._experts, frame.get_column(group) if group else None)
        rows = schema.conform(frame)
        warn_of_leakage(frame, rows, schema, outcome[taught], patient_ids[:t], seed)
        schema, config = make_config(self.settings, schema, rows, len(target.classes), seed)
        teaching: dict[str, Any] = {"checkpoints": self.work}
        others = None
        if sample is not None:
            fold = deal_patients(outcome[~taught], patient_ids[t:], config.folds, seed)
            block_rows = self.budget.block_rows
            others = ArchiveRows(archive, schema, group, taught, outcome, patient_ids[t:], fold, block_rows, self.work, self.progress)
            teaching |= {"weight": sample.weight, "others": others}
        fit_model: Any = fit_risk if len(target.classes) == 2 else fit_classes
        with limit_jobs(self.budget.tasks):
            model, summary = fit_model(schema, rows, outcome[taught], patient_ids[:t], config, self.progress, **teaching)
        records, columns = stored_records(schema, frame, rows, outcome[taught], np.flatnonzero(taught), group), archive.columns
        state = FittedState(
            model, target.classes, target.event_index, target.event, schema, summary, records, columns, columns, patient_ids
        )
        return state, records.lazy() if others is None else others.records(records)
