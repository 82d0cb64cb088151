"""The synthesizer: learns a table of patients, satisfies clinical rules, and generates rows of no real patient.

In the manner of DISCO-TAB: a policy generates a row column by column, discriminators of four granularities compare its rows with real ones,
and an optimizer may improve the policy by their scores. docs/reference/synthesizer.md says which parts are ours and what each contributes.

Shapes: n rows.

References
----------
DISCO-TAB (arXiv 2604.01481).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from nearward.synth import persistence
from nearward.synth.audit_log import AuditedTable, AuditLog
from nearward.synth.constraints.consistency import check_consistent, check_known_columns
from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.synth.differential_privacy.model import DELTA
from nearward.synth.fitting import fit_generator, fit_private_generator
from nearward.synth.generator import FittedGenerator
from nearward.synth.inputs.outcome import rarer_rows, read_event
from nearward.synth.inputs.splits import AuditRows, RoleSplits, split_by_hash, split_by_role
from nearward.synth.inputs.validation import align_holdout, check_trainable
from nearward.synth.optimization.improvement import OPTIMISERS, ImproveConfig, Optimiser
from nearward.synth.policy.training import TrainConfig
from nearward.synth.tokenizer.table_tokenizer import warn_of_identifiers, warn_of_text
from nearward.tabular.data.repeated_rows import warn_of_copies, warn_of_repeated_ids
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import validate_groups
from nearward.tabular.errors import InputError, require_columns
from nearward.tabular.parallel import single_threaded
from nearward.tabular.persistence.artifact import loading
from nearward.tabular.progress import logged
from nearward.tabular.rules.rules import Rules
from nearward.tabular.typing import Progress

_SAVED = ("seed", "optimiser", "epsilon", "target")  # settings


class Synthesizer:
    """Synthetic rows of a cohort.

    Parameters
    ----------
    seed : int
        Of fitting, and of samples without a seed of their own. The same seed gives the same rows.
    optimiser : str
        Optimizer of the policy after its training: ``none``, ``tilt``, ``awr`` or ``ppo``; docs/reference/synthesizer.md compares them.
    epsilon : float, optional
        Differential privacy at the level of the patient: noisy marginals replace the policy; see docs/guide/synthetic-tables.md. No rules
        are mined and no optimizer runs. The noise comes from the operating system and not from the seed: each fit gives another
        generator, and only the samples of one generator are reproducible.
    improving : ImproveConfig, optional
        Settings of the optimizer; see ``nearward.synth.optimization.improvement``.
    target : float, optional
        Share of the event in samples; by default that of the training rows. The stamp of an exported table states both, so that the
        risks of a model trained on it can be corrected (``correct_prior``).
    progress : callable, optional
        Called with a message after each step; the first one of the training says how long it takes at most.
    time_limit : float, optional
        Minutes of the policy's training, which then ends with the best weights so far and a warning; rules, the optimizer and the outcome
        model take further minutes. A fit that was ended so is not reproducible by its seed.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> age = rng.integers(20, 90, 400)
    >>> train = pl.DataFrame({"age": age, "died": (rng.random(400) < age / 200).astype(int)})
    >>> synthetic = Synthesizer(seed=1).fit(train, outcome="died").sample(3, where={"died": 1})
    >>> synthetic.schema == train.schema, synthetic["died"].to_list()
    (True, [1, 1, 1])
    """

    def __init__(
        self,
        seed: int = 0,
        optimiser: Optimiser = "none",
        epsilon: float | None = None,
        improving: ImproveConfig | None = None,
        target: float | None = None,
        progress: Progress | None = None,
        time_limit: float | None = None,
    ) -> None:
        if optimiser not in OPTIMISERS:
            raise InputError(f"optimiser must be one of {list(OPTIMISERS)}, got {optimiser!r}")
        if target is not None and not 0 < target < 1:
            raise InputError(f"target must lie between 0 and 1, got {target}")
        if epsilon is not None:
            PrivacyAccountant(epsilon, DELTA)  # checks epsilon
            if target is not None:
                raise InputError("target cannot be combined with epsilon: sample with where=, or correct the prior of models trained on it")
            if optimiser != "none":
                raise InputError(
                    f"optimiser={optimiser!r} cannot be combined with epsilon: its discriminators read real rows outside the privacy budget"
                )
        self.seed, self.optimiser, self.epsilon, self.improving, self.target = seed, optimiser, epsilon, improving, target
        if time_limit is not None and not time_limit > 0:
            raise InputError(f"time_limit must be greater than 0 minutes, got {time_limit}")
        self.progress, self.time_limit = progress, time_limit
        self._generator: FittedGenerator | None = None
        self._audits = AuditLog()

    def fit(
        self,
        train: pl.DataFrame | pl.LazyFrame,
        outcome: str,
        groups: str | None = None,
        positive: Any = None,
        rules: Rules | None = None,
        holdout: pl.DataFrame | pl.LazyFrame | None = None,
        public: Schema | None = None,
        schema: Schema | None = None,
    ) -> Synthesizer:
        """Learn a table.

        Parameters
        ----------
        train : n rows
        outcome : str
        groups : str, optional
            Column of patient ids. It is not learned: synthetic rows get new ids, text or whole numbers (Int64).
        positive : value, optional
            The event; by default the greater of two values, the rarest of more.
        rules : Rules, optional
            Replace the discovery of rules.
        holdout : pl.DataFrame, optional
            Rows of other patients to evaluate by. Without it a fifth of the patients is held out.
        public : Schema, optional
            With ``epsilon``: ranges and categories from a codebook, which cost no privacy. A schema inferred from these rows is not public.

        schema : Schema, optional
            Says which columns of numbers are codes: those of kind ``category``. A code is generated only where five patients have it, else
            it is missing. Ignored with ``epsilon``.

        Raises
        ------
        MissingColumns, InputError
            Missing columns, an outcome with missing values or one value, fewer than 200 rows; too small an epsilon; a holdout with other
            columns.
        RuleError
            Rules that contradict each other.
        """
        frame = to_frame(train)
        require_columns([outcome, *([groups] if groups else [])], frame.columns)
        if public is not None and self.epsilon is None:
            raise InputError("public= declares ranges and categories that need no privacy budget: use it with epsilon")
        check_consistent(rules or Rules())
        check_known_columns(rules or Rules(), [name for name in frame.columns if name != groups])
        check_trainable(frame, groups)
        holdout = None if holdout is None else align_holdout(to_frame(holdout), frame, groups)
        patient_ids = None if groups is None else validate_groups(frame.get_column(groups), frame.height)
        positive = positive.item() if isinstance(positive, np.generic) else positive
        positive, event = read_event(frame.get_column(outcome), positive, patient_ids)
        codes = [] if schema is None else [column.name for column in schema.columns if column.kind == "category" and column.role != "time"]
        if self.epsilon is None:
            row_indices = split_by_role(
                rarer_rows(event), patient_ids, self.seed, holdout is None, with_discriminators=self.optimiser != "none"
            )
        else:
            row_indices = split_by_hash(frame.get_column(groups) if groups else None, frame.height, self.seed, holdout is None)
        splits = RoleSplits(frame, row_indices, patient_ids, outcome, positive, groups)
        audit_rows = splits.audit_rows(holdout)
        if groups is None:
            warn_of_repeated_ids(frame)
        warn_of_copies(splits.features, event, np.arange(frame.height) if patient_ids is None else patient_ids)
        warn_of_identifiers(splits.features)
        warn_of_text(splits.features)
        progress = logged(self.progress, __name__)
        with single_threaded("torch"):  # sums are the same whatever the number of cores
            if self.epsilon is None:
                config = TrainConfig(time_limit=self.time_limit)
                self._generator = fit_generator(
                    splits, audit_rows, rules, self.optimiser, self.improving, self.target, self.seed, progress, codes, config
                )
            else:
                self._generator = fit_private_generator(splits, audit_rows, rules, self.epsilon, public, progress)
        self._audits = AuditLog()
        return self

    def sample(self, n: int, where: Mapping[str, Any] | None = None, seed: int | None = None) -> pl.DataFrame:
        """Sample rows with the columns, dtypes and order of the training table; an Enum has its published categories only.

        Parameters
        ----------
        n : int
        where : dict, optional
            Values by column that every row must have. The policy generates the rows given these values; no row is rejected to meet them.
        seed : int, optional
            The synthesizer's own by default.

        Raises
        ------
        InputError
            An unknown column or value, conditions that no training row meets together, n below 1, or no fit before.
        RuleError
            No rows that satisfy the rules were found.
        """
        return self.sample_with_redrawn(n, where, seed)[0]

    def sample_with_redrawn(self, n: int, where: Mapping[str, Any] | None = None, seed: int | None = None) -> tuple[pl.DataFrame, float]:
        """Sample rows as ``sample``; also return how many rows were sampled again because they violated a rule, divided by n."""
        if n < 1:
            raise InputError(f"n must be at least 1, got {n}")
        with single_threaded("torch"):
            return self.generator_.sample(n, where or {}, self.target, self.seed if seed is None else seed)

    def save(self, folder: str | Path) -> None:
        """Write the synthesizer into a folder, with its rules in a file for review. The folder contains patient records, for the audit.

        Raises
        ------
        InputError, OSError
            As ``write_model``.
        """
        persistence.save({name: getattr(self, name) for name in _SAVED}, self.generator_, folder)
        self._audits.save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Synthesizer:
        """Read the folder that ``save`` wrote; rules edited in its rules.yaml apply.

        Raises
        ------
        ArtifactError
            Corrupt, or not a synthesizer.
        RuleError
            Rules that cannot be read, that contradict each other, or that name unknown columns.
        """
        settings, generator = persistence.load(folder, _SAVED)
        with loading(folder):
            model = cls(**settings)
        model._generator, model._audits = generator, AuditLog.load(folder)
        return model

    def record_audit(self, sha256: str, seed: int, rows: int, *, passed: bool) -> dict[str, int]:
        """Record that a table of this generator was audited, in its folder too; return the counts of tables ``audited`` and ``passed``.

        Parameters
        ----------
        sha256 : str
            Hash of the table's values; the same table counts once.
        seed, rows : int
            Of the sample.
        passed : bool
        """
        self._audits.add(AuditedTable(sha256, int(seed), int(rows), bool(passed)))
        return self._audits.counts()

    @property
    def rules(self) -> Rules:
        """Rules discovered or given; the ``enforced`` ones hold in every synthetic row."""
        return self.generator_.rules if self._generator else Rules()

    @property
    def privacy(self) -> PrivacyAccountant | None:
        """Privacy budget and its charges; None without ``epsilon``."""
        return self.generator_.privacy if self._generator else None

    @property
    def audit_rows(self) -> AuditRows:
        """Training rows, and rows of patients that were not used, for the audit."""
        return self.generator_.audit_rows

    @property
    def outcome(self) -> str:
        """Column of the outcome."""
        return self.generator_.audit_rows.outcome if self._generator else ""

    @property
    def positive(self) -> Any:
        """The outcome's value that is the event."""
        return self.generator_.audit_rows.positive if self._generator else None

    @property
    def groups(self) -> str | None:
        """Column of patient ids."""
        return self.generator_.audit_rows.group if self._generator else None

    @property
    def summary_(self) -> dict[str, Any]:
        """Rows by role, counts of the outcome as they are and as tokens, shares of RARE, the policy's training, the optimizer's account."""
        return self.generator_.summary.to_dict() if self._generator else {}

    @property
    def about(self) -> dict[str, Any]:
        """Settings and rows by role, for the stamp of a table."""
        return {"optimiser": self.optimiser, "epsilon": self.epsilon, "target": self.target, "rows": self.summary_.get("rows")}

    @property
    def generator_(self) -> FittedGenerator:
        """The fitted parts: tokenizer, policy, rules, and what the audit needs."""
        if self._generator is None:
            raise InputError("the synthesizer is not fitted: call fit first")
        return self._generator
