"""A fitted generator: everything that sampling needs in one immutable object, and sampling under rules and conditions.

Shapes: n rows, d columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from nearward.synth.constraints.compiled_rules import CompiledRules
from nearward.synth.constraints.constrained_sampling import ConstrainedDecoder
from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.synth.differential_privacy.tree_marginals import TreeMarginals
from nearward.synth.inputs.conditions import Conditions, validate_conditions
from nearward.synth.inputs.outcome import target_shares
from nearward.synth.inputs.splits import AuditRows
from nearward.synth.optimization.tilting import TiltedPolicy
from nearward.synth.policy.autoregressive import FREE, Policy
from nearward.synth.policy.outcome_model import OutcomeModel
from nearward.synth.policy.training import TrainingResult
from nearward.synth.tokenizer.column_tokenizers import NumberTokenizer
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.errors import RuleError
from nearward.tabular.rules.rules import Rules
from nearward.tabular.typing import Bools, Ints

_MAX_ROUNDS = 60  # in which rows that violate a rule are sampled again
_MAX_REJECTED = 10_000  # rows sampled in a row that all violate a rule


@dataclass(frozen=True)
class FitSummary:
    """Account of a fit.

    Parameters
    ----------
    rows : dict of role -> number of rows
    optimiser : str
    outcomes : dict
        Rows by value of the outcome: ``table``, in the training rows, and ``tokens``, in these rows encoded and decoded. With differential
        privacy ``noisy`` alone, shares.
    policy : TrainingResult or None
    improved : dict or None
        Account of the optimizer.
    rare : dict
        Share of the training rows, by column, whose category fewer than five patients have: it is generated as RARE, or as missing where
        the dtype has no such value.
    """

    rows: Mapping[str, int]
    optimiser: str
    outcomes: Mapping[str, Mapping[str, float]]
    policy: TrainingResult | None = None
    improved: Mapping[str, Any] | None = None
    rare: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> FitSummary:
        """Return the summary that ``to_dict`` wrote."""
        return cls(**{**body, "policy": TrainingResult(**body["policy"]) if "policy" in body else None})


@dataclass(frozen=True)
class FittedGenerator:
    """A fitted generator.

    Parameters
    ----------
    tokenizer : TableTokenizer
    policy : Policy, Tilted or TreeMarginals
    token_counts : d arrays (size,), training rows with each token; tokens without any are never generated
    rules : Rules
    outcome_model : OutcomeModel or None
        By which the outcome is sampled again given the rest of the row.
    privacy : PrivacyAccountant or None
    audit_rows : AuditRows
        Their training rows have the dtypes of the table; outcome and column of patient ids are named there.
    summary : FitSummary
    """

    tokenizer: TableTokenizer
    policy: Policy | TiltedPolicy | TreeMarginals
    token_counts: tuple[Ints, ...]
    rules: Rules
    outcome_model: OutcomeModel | None
    privacy: PrivacyAccountant | None
    audit_rows: AuditRows
    summary: FitSummary

    @property
    def schema(self) -> pl.Schema:
        """Dtypes of the table, with the column of patient ids."""
        return self.audit_rows.train.schema

    def sample(self, n: int, where: Mapping[str, Any], target: float | None, seed: int) -> tuple[pl.DataFrame, float]:
        """Sample rows that satisfy the enforced rules; errors as ``Synthesizer.sample``.

        Returns
        -------
        table : pl.DataFrame of n rows
        redrawn : float
            Number of rows that were sampled again because they violated a rule, divided by n.
        """
        conditions = validate_conditions(where, self.tokenizer, self.schema, None if self.privacy else self.audit_rows.train)
        rules = self.rules.enforced
        compiled = CompiledRules.compile(rules, self.tokenizer, self.policy.order, self.token_counts)
        rng = np.random.default_rng(seed)
        table: pl.DataFrame | None = None
        pending = np.arange(n)
        redrawn = rejected = 0
        for _ in range(_MAX_ROUNDS):
            rows = self._sample_once(len(pending), compiled, conditions, target, rng)
            violated = rules.violations(rows)
            table = rows if table is None else _replace_rows(table, pending, rows)
            failed = pending[violated.any(axis=1)]
            rejected = rejected + len(failed) if len(failed) == len(pending) else 0
            pending = failed
            redrawn += len(failed)
            if not len(pending):
                return self._with_patient_ids(table), redrawn / n
            if rejected >= _MAX_REJECTED:
                break
        raise _unsatisfied(rules, violated)

    def _sample_once(
        self, n: int, compiled: CompiledRules, conditions: Conditions, target: float | None, rng: np.random.Generator
    ) -> pl.DataFrame:
        """Sample rows under constrained decoding, without the column of patient ids."""
        outcome = self.tokenizer.column_index[self.audit_rows.outcome]
        token_conditions = np.full((n, len(self.tokenizer.column_tokenizers)), FREE)
        for j, token in conditions.tokens.items():
            token_conditions[:, j] = token
        if target is not None and outcome not in conditions.tokens:  # generated first: the rest is sampled given it, as without a target
            shares = target_shares(self.token_counts[outcome], event_token(self.tokenizer, self.audit_rows), target)
            token_conditions[:, outcome] = rng.choice(len(shares), n, p=shares)
        seed = int(rng.integers(2**31))
        decoders: list[ConstrainedDecoder] = []

        def make_constraint(first_row: int) -> ConstrainedDecoder:
            decoders.append(ConstrainedDecoder(compiled, seed + first_row, conditions.numbers))
            return decoders[-1]

        tokens = self.policy.sample(token_conditions, seed, make_constraint)
        if sum(len(decoder.values) for decoder in decoders) != n:  # a tilted policy selects rows
            decoders = [ConstrainedDecoder(compiled, seed, conditions.numbers)]
            for j in compiled.order:
                tokens[:, j] = decoders[0].commit(j, tokens[:, j])
        values = np.concatenate([decoder.values for decoder in decoders])
        if self.outcome_model is not None and outcome not in conditions.tokens:
            allowed = ConstrainedDecoder.of_complete_rows(compiled, values).allowed_tokens(outcome, tokens)
            tokens[:, outcome] = self.outcome_model.resample(tokens, allowed, rng.random(n))
            if isinstance(own := self.tokenizer.column_tokenizers[outcome], NumberTokenizer):
                values[:, outcome] = own.values(tokens[:, outcome], np.zeros(n))
        table = self.tokenizer.to_frame(tokens, values, self.schema)
        return table.with_columns(
            pl.lit(value[0], value.dtype).cast(table.schema[value.name]).alias(value.name) for value in conditions.values
        )

    def _with_patient_ids(self, table: pl.DataFrame) -> pl.DataFrame:
        """Give each row a patient id of its own that no real patient has: a whole number if the real ids are, else text."""
        groups = self.audit_rows.group
        if groups is None:
            return table
        number = pl.int_range(1, table.height + 1, eager=True)
        rows = self.audit_rows
        real = [] if self.privacy else [part.get_column(groups) for part in (rows.train, rows.holdout, rows.steered) if part is not None]
        if self.schema[groups].is_integer():
            ids = _first_patient(real) + number
        else:
            ids = _patient_prefix(real) + number.cast(pl.String)
        return table.with_columns(ids.alias(groups)).select(self.schema.names())


def _first_patient(real: Sequence[pl.Series]) -> int:
    """Return a round number that no real id is greater than, at least 10^15."""
    greatest = max((int(ids.max() or 0) for ids in real if ids.dtype.is_integer()), default=0)  # type: ignore[arg-type]
    steps = (step * 10**power for power in range(15, 19) for step in (1, 2, 5))
    return next((first for first in steps if first >= greatest), greatest)


def _patient_prefix(real: Sequence[pl.Series]) -> str:
    """Return what the ids of synthetic patients start with, and no real id does."""
    number = 1
    while any(ids.cast(pl.String).str.starts_with(f"synthetic{number if number > 1 else ''}-").any() for ids in real):
        number += 1
    return f"synthetic{number if number > 1 else ''}-"


def event_token(tokenizer: TableTokenizer, rows: AuditRows) -> int:
    """Return the token of the event."""
    own = tokenizer.column_tokenizers[tokenizer.column_index[rows.outcome]]
    return int(own.encode(pl.Series(rows.outcome, [rows.positive], dtype=rows.train.schema[rows.outcome]))[0])


def _replace_rows(table: pl.DataFrame, rows: Ints, replacement: pl.DataFrame) -> pl.DataFrame:
    source = np.arange(table.height)
    source[rows] = table.height + np.arange(len(rows))
    return pl.concat([table, replacement])[source]


def _unsatisfied(rules: Rules, violated: Bools) -> RuleError:
    worst = np.argsort(-violated.mean(axis=0), kind="stable")[:3]
    named = [str(rule) for j, rule in enumerate(rules) if j in worst and violated[:, j].any()]
    return RuleError(
        f"no rows that satisfy all rules were found; violated most often: {named}. Check whether they contradict each other or `where`"
    )
