"""Fitting of a generator to a split table: tokenizer, rules, policy, optimizer, outcome model; or tree marginals under a privacy budget.

Shapes: n rows, d columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence

import numpy as np
import polars as pl

from nearward.synth.constraints.compiled_rules import sums_after_terms, with_differences
from nearward.synth.constraints.discovery import discover_rules
from nearward.synth.constraints.violations import violation_checks
from nearward.synth.differential_privacy.model import fit_private
from nearward.synth.generator import FitSummary, FittedGenerator, event_token
from nearward.synth.inputs.outcome import rarer_token, target_shares, value_counts
from nearward.synth.inputs.splits import AuditRows, RoleSplits
from nearward.synth.optimization.improvement import ImproveConfig, ImprovementData, Optimiser, improve
from nearward.synth.optimization.tilting import TiltedPolicy
from nearward.synth.policy.autoregressive import FREE, ObservedTokens, Policy
from nearward.synth.policy.network import NetworkConfig
from nearward.synth.policy.outcome_model import OutcomeModel
from nearward.synth.policy.training import TrainConfig
from nearward.synth.tokenizer.column_tokenizers import CategoryTokenizer, NumberTokenizer
from nearward.synth.tokenizer.dependence import generation_order, mutual_information, strongest_pairs
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.data.conversion import as_text
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import DataWarning
from nearward.tabular.rules.rules import Rules
from nearward.tabular.typing import Floats, Ints, Progress

_PAIRS = 8  # of strongly dependent columns that discriminators see, beside the columns of rules
_MAX_COLUMN_GROUPS = 24
_CALIBRATION_ROWS = 8000  # of the policy, by which the outcome model's intercept is fitted


def fit_generator(
    splits: RoleSplits,
    audit_rows: AuditRows,
    rules: Rules | None,
    optimiser: Optimiser,
    improving: ImproveConfig | None,
    target: float | None,
    seed: int,
    progress: Progress,
    categories: Collection[str] = (),
    training: TrainConfig | None = None,
) -> FittedGenerator:
    """Fit a tokenizer and a policy, discover rules unless they are given, improve the policy, and fit the outcome model.

    Other arguments as ``Synthesizer``; ``categories`` are columns of numbers that are codes; ``progress`` is called with a message after
    each step.
    """
    train, patient_ids = splits.rows("generator"), splits.patients("generator")
    tokenizer = TableTokenizer.fit(train, splits.outcome, patient_ids, categories)
    progress("tokens")
    if rules is None:
        rules = discover_rules(train, splits.rows("rules"), tokenizer, (splits.outcome, splits.positive), patient_ids, seed)
    tokenizer = tokenizer.with_differences(train, rules.enforced, patient_ids)
    enforced = with_differences(rules.enforced, tokenizer)
    tokens, index = tokenizer.encode(train), tokenizer.column_index
    progress("rules")

    outcome, event = index[splits.outcome], event_token(tokenizer, audit_rows)
    token_counts = [np.bincount(tokens[:, j], minlength=size) for j, size in enumerate(tokenizer.sizes)]
    information = mutual_information(tokens, tokenizer.sizes)
    order = sums_after_terms(generation_order(information, outcome), enforced, index)
    policy = Policy(tokenizer.sizes, tokenizer.ordinal, order, token_counts, NetworkConfig.for_table(*tokens.shape))
    discriminator_rows, confirmation_rows = (tokenizer.encode(splits.rows(role)) for role in ("discriminator", "rules"))
    stopping_rows = discriminator_rows if len(discriminator_rows) else confirmation_rows
    result = policy.fit(tokens, stopping_rows, seed, training, progress)

    declared = None if target is None else target_shares(token_counts[outcome], event, target)
    rule_columns = {tuple(index[name] for name in rule.columns) for rule in rules if 1 < len(rule.columns) <= 4}
    data = ImprovementData(
        train=tokens,
        real=discriminator_rows,
        patient_ids=splits.patients("discriminator"),
        validation=confirmation_rows,
        validation_patient_ids=splits.patients("rules"),
        outcome_column=outcome,
        rare_token=rarer_token(token_counts[outcome], event),
        column_groups=[*sorted(rule_columns)[: _MAX_COLUMN_GROUPS - _PAIRS], *strongest_pairs(information, _PAIRS)],
        violation_checks=violation_checks(enforced, tokenizer),
        target=None if declared is None or optimiser == "tilt" else dict(enumerate(declared.tolist())),
    )
    improved, improvement = improve(policy, data, optimiser, seed, improving, progress)

    outcome_model = None
    if improving is None or improving.outcome:
        shares = token_counts[outcome] / token_counts[outcome].sum() if declared is None else declared
        synthetic = _sample_half_events(improved, outcome, event, shares, seed)
        outcome_model = OutcomeModel.fit(tokens, synthetic, outcome, event, float(shares[event]), seed)
    progress("outcome model")

    decoded = tokenizer.decode(tokens, np.full(tokens.shape, 0.5), train.schema)
    summary = FitSummary(
        rows={role: len(rows) for role, rows in splits.row_indices.items()},
        optimiser=optimiser,
        outcomes={"table": value_counts(train[splits.outcome]), "tokens": value_counts(decoded[splits.outcome])},
        policy=result,
        improved=improvement.to_dict(),
        rare=_rare_shares(tokenizer, token_counts),
    )
    return FittedGenerator(tokenizer, improved, tuple(token_counts), rules, outcome_model, None, audit_rows, summary)


def _rare_shares(tokenizer: TableTokenizer, token_counts: Sequence[Ints]) -> dict[str, float]:
    """Return the share of rows whose category is RARE, by column."""
    columns = zip(tokenizer.column_tokenizers, token_counts, strict=True)
    shares = {own.name: float(count[-1] / count.sum()) for own, count in columns if isinstance(own, CategoryTokenizer)}
    return {name: share for name, share in shares.items() if share > 0}


def _sample_half_events(policy: Policy | TiltedPolicy, outcome: int, event: int, shares: Floats, seed: int) -> Ints:
    """Sample rows (n, d) of the policy: half with the event, the others by the shares of its tokens (size,)."""
    conditions = np.full((_CALIBRATION_ROWS, len(policy.sizes)), FREE)
    others = np.where(np.arange(len(shares)) == event, 0, shares)
    conditions[:, outcome] = np.random.default_rng(seed).choice(len(shares), len(conditions), p=others / others.sum())
    conditions[::2, outcome] = event
    return policy.sample(conditions, seed, lambda first_row: ObservedTokens(policy.token_counts))


def fit_private_generator(
    splits: RoleSplits,
    audit_rows: AuditRows,
    rules: Rules | None,
    epsilon: float,
    public: Schema | None,
    progress: Progress,
) -> FittedGenerator:
    """Fit a tokenizer and tree marginals under a privacy budget; no rules are mined and no optimizer runs. Arguments as ``Synthesizer``."""
    private = fit_private(splits.rows("generator"), splits.outcome, splits.patients("generator"), epsilon, public=public)
    progress("bins and marginals under the budget")
    tokenizer = private.tokenizer
    outcome, dtype = tokenizer.column_index[splits.outcome], splits.frame.schema[splits.outcome]
    token_counts = [np.ones(size, dtype=np.int64) for size in tokenizer.sizes]
    token_counts[outcome][0] = 0  # an outcome is never missing
    own = tokenizer.column_tokenizers[outcome]
    values = own.to_series(own.low, dtype) if isinstance(own, NumberTokenizer) else own.to_series(np.arange(own.size), dtype)
    noisy = dict(zip(as_text(values, splits.outcome).to_list(), private.policy.tables[0][0].tolist(), strict=True))
    shares = {value: share for value, share in noisy.items() if value is not None and share > 0}
    event = as_text(pl.Series([splits.positive], dtype=dtype), splits.outcome)[0]
    if event not in shares or len(shares) < 2:
        warnings.warn(
            f"outcome {splits.outcome!r}: the noise of epsilon={epsilon:g} hides its rare value, and no synthetic row will have it. "
            "Increase epsilon, or declare the outcome's values (public=)",
            DataWarning,
            stacklevel=3,
        )
    summary = FitSummary({role: len(rows) for role, rows in splits.row_indices.items()}, "none", {"noisy": shares})
    return FittedGenerator(tokenizer, private.policy, tuple(token_counts), rules or Rules(), None, private.accountant, audit_rows, summary)
