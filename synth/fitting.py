"""How a table is learned once it is dealt: tokens, rules, order, policy, critics; or cells and marginals under a privacy budget.

Letters: n rows, d columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.synth.constraints.compiled_rules import sums_after_terms
from nearward.synth.constraints.discovery import discover_rules
from nearward.synth.constraints.violations import violation_checks
from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.synth.differential_privacy.model import fit_private
from nearward.synth.differential_privacy.tree_marginals import TreeMarginals
from nearward.synth.inputs.outcome import target_shares, value_counts
from nearward.synth.optimization.improvement import ImproveConfig, ImprovementData, Optimiser, improve
from nearward.synth.optimization.tilted import Tilted
from nearward.synth.policy.autoregressive import FREE, ObservedTokens, Policy
from nearward.synth.policy.network import NetworkConfig
from nearward.synth.policy.outcome_model import OutcomeModel
from nearward.synth.tokenizer.column_tokenizers import NumberTokenizer
from nearward.synth.tokenizer.dependence import generation_order, mutual_information, strongest_pairs
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.data.conversion import as_text
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import DataWarning
from nearward.tabular.rules.rules import Rules
from nearward.tabular.typing import Floats, Ints

_PAIRS = 8  # strong associations that critics look at, beside the columns of mined rules
_MOST_GROUPS = 24
_SHIFTING = 8000  # rows of the policy by which the trees of the outcome are shifted


@dataclass(frozen=True)
class RoleSplits:
    """A table, and whose part each row has.

    Parameters
    ----------
    body : n rows, without the patients' column
    part : dict of role -> row numbers
    patient : (n,), patient numbers from 0, or None where every row is a patient of its own
    outcome : str
    positive : value, the rare outcome
    """

    body: pl.DataFrame
    part: Mapping[str, Ints]
    patient: Ints | None
    outcome: str
    positive: Any

    def rows(self, role: str) -> pl.DataFrame:
        """Return the rows of a role."""
        return self.body[self.part[role]]

    def patients(self, role: str) -> Ints | None:
        """Return the patients of a role's rows."""
        return None if self.patient is None else self.patient[self.part[role]]


@dataclass(frozen=True)
class FittedGenerator:
    """What a synthesizer samples by.

    Parameters
    ----------
    tokens : Tokens
    policy : Policy, Tilted or Marginals
    rows : d arrays (size,), learned rows with each token; tokens without any are never written
    rules : Rules
    trees : OutcomeModel or None
        By which the outcome is drawn once more.
    privacy : PrivacyAccountant or None
    told : dict, JSON-able, an account of how it went
    """

    tokens: TableTokenizer
    policy: Policy | Tilted | TreeMarginals
    rows: list[Ints]
    rules: Rules
    trees: OutcomeModel | None
    privacy: PrivacyAccountant | None
    told: dict[str, Any]


def fit_generator(
    dealt: RoleSplits,
    rules: Rules | None,
    optimiser: Optimiser,
    improving: ImproveConfig | None,
    target: float | None,
    seed: int,
    progress: Callable[[str], None],
) -> FittedGenerator:
    """Fit tokens and a policy, find rules, and let an optimiser improve the policy.

    Parameters
    ----------
    dealt : Dealt
    rules : Rules, optional
        In the place of mined ones.
    optimiser, improving, target, seed
        As ``Synthesizer``.
    progress : callable
        Called with a few words after each piece of work.
    """
    seen = dealt.rows("generator")
    tokens = TableTokenizer.fit(seen, dealt.outcome, dealt.patients("generator"))
    coded, place = tokens.encode(seen), tokens.column_index
    progress("tokens")
    if rules is None:
        rare_value = (dealt.outcome, dealt.positive)
        rules = discover_rules(seen, dealt.rows("rules"), tokens, rare_value, dealt.patients("generator"), seed)
    progress("rules")
    told = mutual_information(coded, tokens.sizes)
    outcome = place[dealt.outcome]
    order = sums_after_terms(generation_order(told, outcome), rules.enforced, place)
    rows = [np.bincount(coded[:, j], minlength=size) for j, size in enumerate(tokens.sizes)]
    ordered = [isinstance(column, NumberTokenizer) for column in tokens.column_tokenizers]
    policy = Policy(tokens.sizes, ordered, order, rows, NetworkConfig.for_rows(len(coded)))
    held, judges = (tokens.encode(dealt.rows(role)) for role in ("discriminator", "rules"))
    account: dict[str, Any] = {"policy": policy.fit(coded, held if len(held) else judges, seed, progress=progress).to_dict()}
    rare = rare_token(tokens, dealt.outcome, dealt.positive, dealt.body.schema)
    wanted = None
    if target is not None and optimiser != "tilt":
        wanted = {token: float(share) for token, share in enumerate(target_shares(rows[outcome], rare, target))}
    of_rules = {tuple(place[name] for name in rule.columns) for rule in rules if 1 < len(rule.columns) <= 4}
    groups = [*sorted(of_rules)[: _MOST_GROUPS - _PAIRS], *strongest_pairs(told, _PAIRS)]
    ground = ImprovementData(
        learned=coded,
        real=held,
        patient=dealt.patients("discriminator"),
        judges=judges,
        judge=dealt.patients("rules"),
        outcome=outcome,
        rare=rare,
        groups=groups,
        violation_checks=violation_checks(rules.enforced, tokens),
        target=wanted,
    )
    better, account["improved"] = improve(policy, ground, optimiser, seed, improving, progress)
    shown = tokens.decode(coded, np.full(coded.shape, 0.5), dealt.body.schema)
    account["outcomes"] = {"table": value_counts(seen[dealt.outcome]), "tokens": value_counts(shown[dealt.outcome])}
    trees = None
    if improving is None or improving.outcome:
        share = target_shares(rows[outcome], rare, target) if target is not None else rows[outcome] / rows[outcome].sum()
        made = sample_half_rare(better, outcome, rare, share, seed)
        trees = OutcomeModel.fit(coded, made, outcome, rare, float(share[rare]), seed)
    progress("trees of the outcome")
    return FittedGenerator(tokens, better, rows, rules, trees, None, account)


def fit_private_generator(
    dealt: RoleSplits, rules: Rules | None, epsilon: float, public: Schema | None, progress: Callable[[str], None]
) -> FittedGenerator:
    """Fit cells and marginals under a privacy budget; nothing is mined, and nothing improved.

    Parameters
    ----------
    dealt : Dealt
    rules : Rules, optional
    epsilon : float
    public : Schema, optional
        Ranges and levels from a codebook.
    progress : callable
    """
    seen = dealt.rows("generator")
    private = fit_private(seen, dealt.outcome, dealt.patients("generator"), epsilon, public=public)
    progress("cells and marginals under the budget")
    tokens, policy = private.tokens, private.policy
    rows = [np.ones(size, dtype=np.int64) for size in tokens.sizes]
    place, dtype = tokens.column_index[dealt.outcome], dealt.body.schema[dealt.outcome]
    rows[place][0] = 0  # an outcome is never missing
    own = tokens.column_tokenizers[place]
    values = own.to_series(own.low, dtype) if isinstance(own, NumberTokenizer) else own.to_series(np.arange(own.size), dtype)
    noisy = dict(zip(as_text(values, dealt.outcome).to_list(), policy.tables[0][0].tolist(), strict=True))
    shares = {name: share for name, share in noisy.items() if name is not None and share > 0}
    if as_text(pl.Series([dealt.positive], dtype=dtype), dealt.outcome)[0] not in shares:
        warnings.warn(
            f"outcome {dealt.outcome!r}: its rare value was lost in the noise of epsilon={epsilon:g}, and no synthetic row will have it. "
            "Take a greater epsilon, or declare the outcome's values (public=)",
            DataWarning,
            stacklevel=5,
        )
    return FittedGenerator(tokens, policy, rows, rules or Rules(), None, private.ledger, {"outcomes": {"noisy": shares}})


def sample_half_rare(policy: Policy | Tilted, outcome: int, rare: int, share: Floats, seed: int) -> Ints:
    """Draw rows (n, d) of the policy: half with the rare outcome, the others by the shares of its tokens (size,)."""
    given = np.full((_SHIFTING, len(policy.sizes)), FREE)
    others = np.where(np.arange(len(share)) == rare, 0, share)
    given[:, outcome] = np.random.default_rng(seed).choice(len(share), len(given), p=others / others.sum())
    given[::2, outcome] = rare
    return policy.sample(given, seed, lambda first: ObservedTokens(policy.token_counts))


def rare_token(tokens: TableTokenizer, outcome: str, positive: Any, schema: Mapping[str, pl.DataType]) -> int:
    """Return the token of the rare outcome."""
    own = tokens.column_tokenizers[tokens.column_index[outcome]]
    return int(own.encode(pl.Series(outcome, [positive], dtype=schema[outcome]))[0])
