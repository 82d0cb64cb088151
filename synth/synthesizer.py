"""The synthesizer: learns a table, keeps the clinic's rules, and writes rows that no patient is.

DISCO-TAB-style: a policy writes a row column by column, critics at four grains say where it is unlike real rows, an optimiser listens.
docs/synth.md says which parts are ours, and what each of them buys.

Letters: n rows, d columns.

References
----------
DISCO-TAB (arXiv 2604.01481).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.synth.columns import NumberTokens
from nearward.synth.conditions import Conditions, read_conditions
from nearward.synth.contradictions import refuse_contradictions
from nearward.synth.discover import discover
from nearward.synth.enforce import Keeper, RuleBook, after_terms
from nearward.synth.improve import OPTIMISERS, Ground, ImproveConfig, Optimiser, improve
from nearward.synth.kept import restored, save
from nearward.synth.ledger import Ledger
from nearward.synth.outcomes import counts, declared, numbered, rare_event
from nearward.synth.policy import FREE, Policy
from nearward.synth.private import fit_private
from nearward.synth.private_marginals import Marginals
from nearward.synth.relations import mutual_information, strongest_pairs, writing_order
from nearward.synth.roles import JUDGES, AuditRows, deal_alone, deal_roles
from nearward.synth.tilted import Tilted
from nearward.synth.tokens import Tokens, warn_of_names
from nearward.tabular.errors import InputError, MissingColumns, RuleError
from nearward.tabular.frame import to_frame
from nearward.tabular.rules import Rules
from nearward.tabular.workers import one_thread

Ints = NDArray[np.int64]

_TURNS = 60  # in which rows that break a rule all the same are drawn again
_IN_VAIN = 10_000  # rows drawn one after the other of which none keeps the rules: no more are tried
_PAIRS = 8  # strong associations that critics look at, beside the columns of mined rules
_MOST_GROUPS = 24


class Synthesizer:
    """Synthetic rows of a cohort.

    Parameters
    ----------
    seed : int
        Of fitting, and of samples that name none. The same seed gives the same rows.
    optimiser : str
        What listens to the critics: ``none``, ``tilt``, ``awr`` or ``ppo``. docs/synth.md says what each bought, and why the default is it.
    epsilon : float, optional
        Differential privacy at the level of the patient: noisy marginals in the place of the policy; see docs/export.md. Nothing is
        mined then, and nothing improved: rules must be given.
    improving : ImproveConfig, optional
        How the optimiser works; see ``nearward.synth.improve``.
    target : float, optional
        Share of the rare outcome that samples shall have; by default that of the rows learned. The stamp of an exported table tells both,
        so that a model trained on it can be carried back (``correct_prior``).
    progress : callable, optional
        Called with a few words after each piece of work.

    Attributes
    ----------
    rules : Rules
        Mined or given; those that are ``enforced`` hold in every row.
    privacy : Ledger or None
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
            raise InputError(f"optimiser must be one of {list(OPTIMISERS)}, however: {optimiser!r}")
        if target is not None and not 0 < target < 1:
            raise InputError(f"target must lie between 0 and 1, however: {target}")
        if target is not None and epsilon is not None:
            raise InputError("target and epsilon do not go together: sample with where=, or correct the prior of what is learned from it")
        self.seed, self.optimiser, self.epsilon, self.improving, self.progress = seed, optimiser, epsilon, improving, progress
        self.target = target
        self.rules = Rules()
        self.privacy: Ledger | None = None
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
    ) -> Synthesizer:
        """Learn a table.

        Parameters
        ----------
        train : n rows
        outcome : str
        groups : str, optional
            Column that names patients: it is not learned, and synthetic rows get fresh ones.
        positive : value, optional
            The rare outcome; by default the rarer value.
        rules : Rules, optional
            In the place of those that would be mined.
        holdout : pl.DataFrame, optional
            Rows of other patients to judge by. Without it an eighth of the patients is set aside for that, and not learned from.

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
        refuse_contradictions(rules or Rules())
        self.outcome, self.groups, self._schema = outcome, groups, frame.schema
        self.positive, event = rare_event(frame.get_column(outcome), positive)
        with one_thread():  # sums come out the same whatever the number of cores
            return self._fitted(frame, event, rules, None if holdout is None else _alike(to_frame(holdout), frame))

    def sample(self, n: int, where: Mapping[str, Any] | None = None, seed: int | None = None) -> pl.DataFrame:
        """Draw rows with the columns, dtypes and order of the table that was learned.

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
            raise InputError(f"n must be at least 1, however: {n}")
        seen = None if self.privacy else self.audit_rows.train
        asked = read_conditions(where or {}, self._tokens, self._schema, seen)
        rules = self.rules.enforced
        book = RuleBook.of(rules, self._tokens, self._policy.order, self._rows)
        draw = np.random.default_rng(self.seed if seed is None else seed)
        open_ = np.arange(n)
        made: pl.DataFrame | None = None
        again = in_vain = 0
        with one_thread():
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
        model: Synthesizer = restored(cls, folder)
        return model

    # ---- fitting ------------------------------------------------------------------------------------------------------------------

    def _fitted(self, frame: pl.DataFrame, event: Ints, rules: Rules | None, judges: pl.DataFrame | None) -> Synthesizer:
        tick = self.progress or (lambda words: None)
        body = frame.drop(self.groups) if self.groups else frame
        warn_of_names(body)
        patient = None if self.groups is None else numbered(frame.get_column(self.groups))
        if self.epsilon is None:
            part = deal_roles(event, patient, self.seed, judged=judges is None)
        else:
            who = frame.get_column(self.groups).cast(pl.String) if self.groups else pl.Series(range(frame.height)).cast(pl.String)
            part = deal_alone(who.fill_null(""), self.seed)
        judges = frame[np.sort(np.concatenate([part[role] for role in JUDGES]))] if judges is None else judges
        self.audit_rows = AuditRows(frame[part["generator"]], judges, self.outcome, self.positive, self.groups)
        self.summary_ = {"rows": {role: len(rows) for role, rows in part.items()}, "optimiser": self.optimiser}
        seen = body[part["generator"]]
        own = None if patient is None else patient[part["generator"]]
        if self.epsilon is not None:
            private = fit_private(seen, self.outcome, own, self.epsilon)
            self._tokens, self._policy, self.privacy = private.tokens, private.policy, private.ledger
            self._rows = [np.ones(size, dtype=np.int64) for size in self._tokens.sizes]
            self._rows[self._tokens.place[self.outcome]][0] = 0  # an outcome is never missing
            self.rules = rules or Rules()
            return self
        tokens = self._tokens = Tokens.fit(seen, protect=self.outcome)
        coded, place = tokens.encode(seen), tokens.place
        tick("tokens")
        self.rules = (
            rules if rules is not None else discover(seen, body[part["rules"]], tokens, (self.outcome, self.positive), own, self.seed)
        )
        tick("rules")
        told = mutual_information(coded, tokens.sizes)
        order = after_terms(writing_order(told, place[self.outcome]), self.rules.enforced, place)
        self._rows = [np.bincount(coded[:, j], minlength=size) for j, size in enumerate(tokens.sizes)]
        policy = Policy(tokens.sizes, [isinstance(column, NumberTokens) for column in tokens.columns], order, self._rows)
        held = tokens.encode(body[part["discriminator"]])
        self.summary_["policy"] = policy.fit(coded, held, self.seed, tick=tick)
        rare, target = self._rare(), None
        if self.target is not None:
            wanted = declared(self._rows[place[self.outcome]], rare, self.target)
            target = None if self.optimiser == "tilt" else {token: float(share) for token, share in enumerate(wanted)}
        of_rules = {tuple(place[name] for name in rule.columns) for rule in self.rules if 1 < len(rule.columns) <= 4}
        groups = [*sorted(of_rules)[: _MOST_GROUPS - _PAIRS], *strongest_pairs(told, _PAIRS)]
        others = None if patient is None else patient[part["discriminator"]]
        ground = Ground(coded, held, others, place[self.outcome], rare, groups, target)
        self._policy, self.summary_["improved"] = improve(policy, ground, self.optimiser, self.seed, self.improving, tick)
        shown = tokens.decode(coded, np.full(coded.shape, 0.5), body.schema)
        self.summary_["outcomes"] = {"table": counts(seen[self.outcome]), "tokens": counts(shown[self.outcome])}
        return self

    _tokens: Tokens
    _policy: Policy | Tilted | Marginals
    _rows: list[Ints]

    # ---- sampling -----------------------------------------------------------------------------------------------------------------

    def _drawn(self, n: int, book: RuleBook, asked: Conditions, draw: np.random.Generator) -> pl.DataFrame:
        """Draw rows by the book, without the patients' column."""
        given = np.full((n, len(self._tokens.columns)), FREE)
        for j, token in asked.tokens.items():
            given[:, j] = token
        place = self._tokens.place[self.outcome]
        if self.target is not None and place not in asked.tokens:  # written first: given it, the rest is drawn as ever
            wanted = declared(self._rows[place], self._rare(), self.target)
            given[:, place] = draw.choice(len(wanted), n, p=wanted)
        seed = int(draw.integers(2**31))
        keepers: list[Keeper] = []

        def limits(first: int) -> Keeper:
            keepers.append(Keeper(book, seed + first, asked.numbers))
            return keepers[-1]

        tokens = self._policy.sample(given, seed, limits)
        if sum(len(keeper.values) for keeper in keepers) != n:  # a tilted policy has chosen among more: its numbers are drawn anew
            keepers = [Keeper(book, seed, asked.numbers)]
            for j in book.order:
                tokens[:, j] = keepers[0].written(j, tokens[:, j])
        values = np.concatenate([keeper.values for keeper in keepers])
        schema = pl.Schema({name: dtype for name, dtype in self._schema.items() if name != self.groups})
        made = self._tokens.write(tokens, values, schema)
        return made.with_columns(pl.repeat(one[0], n, dtype=one.dtype, eager=True).alias(one.name) for one in asked.values)

    def _rare(self) -> int:
        """Return the token of the rare outcome."""
        own = self._tokens.columns[self._tokens.place[self.outcome]]
        return int(own.encode(pl.Series(self.outcome, [self.positive], dtype=self._schema[self.outcome]))[0])

    def _with_patients(self, made: pl.DataFrame) -> pl.DataFrame:
        """Give each row a patient of its own, in the patients' column and dtype."""
        if self.groups is None:
            return made
        number = pl.int_range(1, made.height + 1, eager=True)
        dtype = self._schema[self.groups]
        fresh = number if dtype.is_numeric() else "synthetic-" + number.cast(pl.String)
        return made.with_columns(fresh.cast(dtype).alias(self.groups)).select(self._schema.names())

    @staticmethod
    def _unkept(rules: Rules, broken: NDArray[np.bool_]) -> RuleError:
        worst = np.argsort(-broken.mean(axis=0), kind="stable")[:3]
        named = [str(rule) for j, rule in enumerate(rules) if j in worst and broken[:, j].any()]
        return RuleError(
            f"rows that keep all rules could not be drawn; broken most often: {named}. Do they contradict each other, or `where`?"
        )


def _alike(holdout: pl.DataFrame, train: pl.DataFrame) -> pl.DataFrame:
    if missing := [name for name in train.columns if name not in holdout.columns]:
        raise MissingColumns(missing, holdout.columns)
    return holdout.select(pl.col(name).cast(dtype) for name, dtype in train.schema.items())


def _put(made: pl.DataFrame, rows: Ints, fresh: pl.DataFrame) -> pl.DataFrame:
    """Put fresh rows in the place of some."""
    source = np.arange(made.height)
    source[rows] = made.height + np.arange(len(rows))
    return pl.concat([made, fresh])[source]
