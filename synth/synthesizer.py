"""The synthesizer: learns a table, keeps the clinic's rules, and writes rows that no patient is.

DISCO-TAB-style: a policy writes a row column by column, critics at four grains say where it is unlike real rows, an optimiser listens.
docs/reference/synthesizer.md says which parts are ours, and what each of them buys.

Letters: n rows, d columns.

References
----------
DISCO-TAB (arXiv 2604.01481).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.synth.constraints.compiled_rules import CompiledRules
from nearward.synth.constraints.consistency import check_consistent, check_known_columns
from nearward.synth.constraints.constrained_sampling import ConstrainedDecoder
from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.synth.differential_privacy.model import DELTA
from nearward.synth.differential_privacy.tree_marginals import TreeMarginals
from nearward.synth.fitting import RoleSplits, fit_generator, fit_private_generator, rare_token
from nearward.synth.inputs.conditions import Conditions, validate_conditions
from nearward.synth.inputs.outcome import read_event, target_shares
from nearward.synth.inputs.splits import HOLDOUT_ROLES, TUNING_ROLES, AuditRows, split_by_hash, split_by_role
from nearward.synth.inputs.validation import align_holdout, check_trainable
from nearward.synth.optimization.improvement import OPTIMISERS, ImproveConfig, Optimiser
from nearward.synth.optimization.tilted import Tilted
from nearward.synth.persistence import load, save
from nearward.synth.policy.autoregressive import FREE, Policy
from nearward.synth.policy.outcome_model import OutcomeModel
from nearward.synth.tokenizer.column_tokenizers import NumberTokenizer
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer, warn_of_identifiers
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import validate_groups
from nearward.tabular.errors import InputError, MissingColumns, RuleError
from nearward.tabular.parallel import single_threaded
from nearward.tabular.rules.rules import Rules
from nearward.tabular.typing import Ints

_TURNS = 60  # in which rows that break a rule all the same are drawn again
_IN_VAIN = 10_000  # rows drawn one after the other of which none keeps the rules: no more are tried
_FIRST_PATIENT = 10**15  # synthetic patients' whole numbers come after it: nobody's own


class Synthesizer:
    """Synthetic rows of a cohort.

    Parameters
    ----------
    seed : int
        Of fitting, and of samples that name none. The same seed gives the same rows.
    optimiser : str
        Optimizer of the policy after its training: ``none``, ``tilt``, ``awr`` or ``ppo``; docs/reference/synthesizer.md compares them.
    epsilon : float, optional
        Differential privacy at the level of the patient: noisy marginals replace the policy; see docs/guide/synthetic-tables.md. No rules
        are mined and no optimizer runs. The noise does not depend on the seed.
    improving : ImproveConfig, optional
        How the optimiser works; see ``nearward.synth.optimization.improvement``.
    target : float, optional
        Share of the rare outcome that samples shall have; by default that of the rows learned. The stamp of an exported table tells both,
        so that a model trained on it can be carried back (``correct_prior``).
    progress : callable, optional
        Called with a few words after each piece of work.

    Attributes
    ----------
    rules : Rules
        Mined or given; those that are ``enforced`` hold in every row.
    privacy : PrivacyAccountant or None
        What differential privacy cost.
    audit_rows : AuditRows
        What was learned from, and patients that were not, for the audit.
    summary_ : dict
        Rows by role, counts of each outcome before and after the cut into tokens, how the policy learned, what the critics found.

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> age = draw.integers(20, 90, 400)
    >>> train = pl.DataFrame({"age": age, "died": (draw.random(400) < age / 200).astype(int)})
    >>> made = Synthesizer(seed=1).fit(train, outcome="died").sample(3, where={"died": 1})
    >>> made.schema == train.schema, made["died"].to_list()
    (True, [1, 1, 1])
    """

    def __init__(
        self,
        seed: int = 0,
        optimiser: Optimiser = "none",
        epsilon: float | None = None,
        improving: ImproveConfig | None = None,
        target: float | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        if optimiser not in OPTIMISERS:
            raise InputError(f"optimiser must be one of {list(OPTIMISERS)}, got {optimiser!r}")
        if target is not None and not 0 < target < 1:
            raise InputError(f"target must lie between 0 and 1, got {target}")
        if epsilon is not None:
            PrivacyAccountant(epsilon, DELTA)  # an epsilon without meaning is refused here
            if target is not None:
                raise InputError("target and epsilon do not go together: sample with where=, or correct the prior of what learns from it")
            if optimiser != "none":
                raise InputError(f"optimiser={optimiser!r} and epsilon do not go together: critics look at patients unpaid")
        self.seed, self.optimiser, self.epsilon, self.improving, self.progress = seed, optimiser, epsilon, improving, progress
        self.target = target
        self.rules = Rules()
        self.privacy: PrivacyAccountant | None = None
        self.outcome, self.positive = "", None
        self.groups: str | None = None
        self.summary_: dict[str, Any] = {}

    def fit(
        self,
        train: pl.DataFrame | pl.LazyFrame,
        outcome: str,
        groups: str | None = None,
        positive: Any = None,
        rules: Rules | None = None,
        holdout: pl.DataFrame | pl.LazyFrame | None = None,
        public: Schema | None = None,
    ) -> Synthesizer:
        """Learn a table.

        Parameters
        ----------
        train : n rows
        outcome : str
        groups : str, optional
            Column that names patients: it is not learned, and synthetic rows get fresh ones, as text or as whole numbers (Int64).
        positive : value, optional
            The event; by default the greater of two values, the rarest of more.
        rules : Rules, optional
            In the place of those that would be mined.
        holdout : pl.DataFrame, optional
            Rows of other patients to judge by. Without it a fifth of the patients is set aside for that, and not learned from.
        public : Schema, optional
            With ``epsilon``: ranges and levels from a codebook, which cost nothing. A schema inferred from these rows is not public.

        Raises
        ------
        MissingColumns, InputError
            Columns, an outcome with holes or one value, fewer than 200 rows; an epsilon that cannot be had; a holdout of other columns.
        RuleError
            Rules that contradict each other.
        """
        frame = to_frame(train)
        named = [outcome, *([groups] if groups else [])]
        if missing := [name for name in named if name not in frame.columns]:
            raise MissingColumns(missing, frame.columns)
        if public is not None and self.epsilon is None:
            raise InputError("public= declares what need not be paid for: it goes with epsilon")
        check_consistent(rules or Rules())
        check_known_columns(rules or Rules(), [name for name in frame.columns if name != groups])
        check_trainable(frame, groups)
        judges = None if holdout is None else align_holdout(to_frame(holdout), frame, groups)
        self.outcome, self.groups, self._schema = outcome, groups, frame.schema
        self.positive, event = read_event(frame.get_column(outcome), positive.item() if isinstance(positive, np.generic) else positive)
        with single_threaded("torch"):  # sums come out the same whatever the number of cores
            return self._fitted(frame, event, rules, judges, public)

    def sample(self, n: int, where: Mapping[str, Any] | None = None, seed: int | None = None) -> pl.DataFrame:
        """Draw rows with the columns, dtypes and order of the table that was learned; an Enum has its published categories only.

        Parameters
        ----------
        n : int
        where : dict, optional
            Values by column that every row shall have. They are given to the policy; no row is drawn again to meet them.
        seed : int, optional
            The synthesizer's own by default.

        Raises
        ------
        InputError
            A column or value that was not learned, conditions that no learned row meets together, or fewer rows than one.
        RuleError
            Rules that rows cannot keep.
        """
        if n < 1:
            raise InputError(f"n must be at least 1, got {n}")
        seen = None if self.privacy else self.audit_rows.train
        asked = validate_conditions(where or {}, self._tokens, self._schema, seen)
        rules = self.rules.enforced
        book = CompiledRules.compile(rules, self._tokens, self._policy.order, self._rows)
        draw = np.random.default_rng(self.seed if seed is None else seed)
        open_ = np.arange(n)
        made: pl.DataFrame | None = None
        again = in_vain = 0
        with single_threaded("torch"):
            for _ in range(_TURNS):
                fresh = self._drawn(len(open_), book, asked, draw)
                broken = rules.violations(fresh)
                made = fresh if made is None else _put(made, open_, fresh)
                left = open_[broken.any(axis=1)]
                in_vain = in_vain + len(left) if len(left) == len(open_) else 0
                open_ = left
                again += len(open_)
                if not len(open_) or in_vain >= _IN_VAIN:
                    break
        if made is None or len(open_):
            raise self._unkept(rules, broken)
        self.summary_["drawn_again"] = again / n
        return self._with_patients(made)

    @property
    def about(self) -> dict[str, Any]:
        """What a stamp tells of the synthesizer; ``drawn_again`` is how many rows the last sample drew again, over its own."""
        how = {"optimiser": self.optimiser, "epsilon": self.epsilon, "target": self.target}
        return how | {"rows": self.summary_.get("rows"), "drawn_again": self.summary_.get("drawn_again")}

    def save(self, folder: str | Path) -> None:
        """Write the synthesizer, its rules to be reviewed beside it, into a folder. It holds patients' rows, for the audit.

        Raises
        ------
        InputError, OSError
            As ``write_model``.
        """
        save(self, folder)

    @classmethod
    def load(cls, folder: str | Path) -> Synthesizer:
        """Read what ``save`` wrote; rules that were edited in the folder's rules.yaml hold.

        Raises
        ------
        ArtefactError
            Corrupt, or no synthesizer.
        RuleError
            Rules that cannot be read, that contradict each other, or that speak of columns it does not have.
        """
        model: Synthesizer = load(cls, folder)
        return model

    # ---- fitting ------------------------------------------------------------------------------------------------------------------

    def _fitted(
        self, frame: pl.DataFrame, event: Ints, rules: Rules | None, judges: pl.DataFrame | None, public: Schema | None
    ) -> Synthesizer:
        progress = self.progress or (lambda words: None)
        body = frame.drop(self.groups) if self.groups else frame
        warn_of_identifiers(body)
        patient = None if self.groups is None else validate_groups(frame.get_column(self.groups), frame.height)
        if self.epsilon is None:
            part = split_by_role(event, patient, self.seed, judged=judges is None, critics=self.optimiser != "none")
        else:
            part = split_by_hash(frame.get_column(self.groups) if self.groups else None, frame.height, self.seed, judged=judges is None)
        if judges is None:
            judges = frame[_joined(part, HOLDOUT_ROLES)]
        steered = frame[_joined(part, TUNING_ROLES)] if self.epsilon is None else None
        self.audit_rows = AuditRows(frame[part["generator"]], judges, self.outcome, self.positive, self.groups, steered)
        dealt = RoleSplits(body, part, patient, self.outcome, self.positive)
        if self.epsilon is None:
            found = fit_generator(dealt, rules, self.optimiser, self.improving, self.target, self.seed, progress)
        else:
            found = fit_private_generator(dealt, rules, self.epsilon, public, progress)
        self._tokens, self._policy, self._rows = found.tokens, found.policy, found.rows
        self.rules, self._trees, self.privacy = found.rules, found.trees, found.privacy
        self.summary_ = {"rows": {role: len(rows) for role, rows in part.items()}, "optimiser": self.optimiser, **found.told}
        return self

    _tokens: TableTokenizer
    _policy: Policy | Tilted | TreeMarginals
    _rows: list[Ints]
    _trees: OutcomeModel | None

    # ---- sampling -----------------------------------------------------------------------------------------------------------------

    def _drawn(self, n: int, book: CompiledRules, asked: Conditions, draw: np.random.Generator) -> pl.DataFrame:
        """Draw rows by the book, without the patients' column."""
        given = np.full((n, len(self._tokens.column_tokenizers)), FREE)
        for j, token in asked.tokens.items():
            given[:, j] = token
        place = self._tokens.column_index[self.outcome]
        if self.target is not None and place not in asked.tokens:  # written first: given it, the rest is drawn as ever
            rare = rare_token(self._tokens, self.outcome, self.positive, self._schema)
            wanted = target_shares(self._rows[place], rare, self.target)
            given[:, place] = draw.choice(len(wanted), n, p=wanted)
        seed = int(draw.integers(2**31))
        keepers: list[ConstrainedDecoder] = []

        def make_constraint(first: int) -> ConstrainedDecoder:
            keepers.append(ConstrainedDecoder(book, seed + first, asked.numbers))
            return keepers[-1]

        tokens = self._policy.sample(given, seed, make_constraint)
        if sum(len(keeper.values) for keeper in keepers) != n:  # a tilted policy has chosen among more: its numbers are drawn anew
            keepers = [ConstrainedDecoder(book, seed, asked.numbers)]
            for j in book.order:
                tokens[:, j] = keepers[0].commit(j, tokens[:, j])
        values = np.concatenate([keeper.values for keeper in keepers])
        if self._trees is not None and place not in asked.tokens:
            may = ConstrainedDecoder.of_complete_rows(book, values).allowed_tokens(place, tokens)
            tokens[:, place] = self._trees.resample(tokens, may, draw.random(n))
            if isinstance(own := self._tokens.column_tokenizers[place], NumberTokenizer):
                values[:, place] = own.values(tokens[:, place], np.zeros(n))
        schema = pl.Schema({name: dtype for name, dtype in self._schema.items() if name != self.groups})
        made = self._tokens.to_frame(tokens, values, schema)
        return made.with_columns(pl.lit(one[0], one.dtype).cast(made.schema[one.name]).alias(one.name) for one in asked.values)

    def _with_patients(self, made: pl.DataFrame) -> pl.DataFrame:
        """Give each row a patient of its own: names that no real one has, whole numbers where they had these, else text."""
        if self.groups is None:
            return made
        number = pl.int_range(1, made.height + 1, eager=True)
        fresh = _FIRST_PATIENT + number if self._schema[self.groups].is_integer() else "synthetic-" + number.cast(pl.String)
        return made.with_columns(fresh.alias(self.groups)).select(self._schema.names())

    @staticmethod
    def _unkept(rules: Rules, broken: NDArray[np.bool_]) -> RuleError:
        worst = np.argsort(-broken.mean(axis=0), kind="stable")[:3]
        named = [str(rule) for j, rule in enumerate(rules) if j in worst and broken[:, j].any()]
        return RuleError(
            f"rows that keep all rules could not be drawn; broken most often: {named}. Do they contradict each other, or `where`?"
        )


def _joined(part: Mapping[str, Ints], roles: Sequence[str]) -> Ints:
    """Return the rows of some roles, increasing."""
    return np.sort(np.concatenate([part[role] for role in roles]))


def _put(made: pl.DataFrame, rows: Ints, fresh: pl.DataFrame) -> pl.DataFrame:
    """Put fresh rows in the place of some."""
    source = np.arange(made.height)
    source[rows] = made.height + np.arange(len(rows))
    return pl.concat([made, fresh])[source]
