"""The synthesizer: learns a table, keeps the clinic's rules, and writes rows that no patient is.

So far: the policy by maximum likelihood, stopped where rows it does not learn from stop becoming likelier; mined and edited rules kept by
drawing broken rows again. Discriminators and reinforcement learning are not built in yet.

Letters: n rows, d columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.synth.columns import Grid, LevelTokens, NumberTokens
from nearward.synth.policy import FREE, OnlySeen, Policy
from nearward.synth.relations import mutual_information, writing_order
from nearward.synth.roles import JUDGES, AuditRows, deal_roles
from nearward.synth.tokens import Tokens
from nearward.tabular.artefact import pack, read_model, unpack, write_model
from nearward.tabular.cells import as_text
from nearward.tabular.errors import ArtefactError, DataWarning, InputError, MissingColumns, RuleError, did_you_mean
from nearward.tabular.frame import to_frame
from nearward.tabular.mine import mine
from nearward.tabular.rules import Rules
from nearward.tabular.rules_file import from_yaml, read_rules, to_yaml, write_rules

Ints = NDArray[np.int64]

KIND = "synthesizer"
RULES_FILE = "rules.yaml"
_FEWEST_ROWS, _FEWEST_EVENTS = 200, 20
_MOST_BROKEN = 0.01  # of the rows that a rule is confirmed on
_TURNS = 60  # in which rows that break a rule are drawn again
_PARTS: tuple[type, ...] = (Tokens, NumberTokens, LevelTokens, Grid)
_ROLE = "(role)"  # the artefact's own column beside the records' columns


class Synthesizer:
    """Synthetic rows of a cohort.

    Parameters
    ----------
    seed : int
        Of fitting, and of samples that name none. The same seed gives the same rows.
    progress : callable, optional
        Called with a few words after each piece of work.

    Attributes
    ----------
    rules : Rules
        Hard rules that every row keeps.
    audit_rows : AuditRows
        What was learned from, and patients that were not, for the audit.
    summary_ : dict
        Rows by role, counts of each outcome before and after the cut into tokens, how the policy learned.

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> age = draw.integers(20, 90, 400)
    >>> train = pl.DataFrame({"age": age, "died": (draw.random(400) < age / 200).astype(int)})
    >>> made = Synthesizer(seed=1).fit(train, outcome="died").sample(3, where={"died": 1})
    >>> made.schema == train.schema, made["died"].to_list()
    (True, [1, 1, 1])
    """

    positive: Any
    privacy: Any = None  # a ledger, once a differentially private policy is wired in

    def __init__(self, seed: int = 0, progress: Callable[[str], None] | None = None) -> None:
        self.seed, self.progress = seed, progress
        self.rules = Rules()
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

        Raises
        ------
        MissingColumns, InputError
            Columns, an outcome with holes or one value, fewer than 200 rows.
        """
        tick = self.progress or (lambda words: None)
        frame = to_frame(train)
        named = [outcome, *([groups] if groups else [])]
        if missing := [name for name in named if name not in frame.columns]:
            raise MissingColumns(missing, frame.columns)
        self.outcome, self.groups = outcome, groups
        event = self._event(frame.get_column(outcome), positive)
        who = None if groups is None else frame.get_column(groups).rank("dense").fill_null(0).to_numpy().astype(np.int64)
        patient = None if who is None else np.unique(who, return_inverse=True)[1].astype(np.int64)
        part = deal_roles(event, patient, self.seed)
        body = frame.drop(groups) if groups else frame
        seen, held = body[part["generator"]], body[part["discriminator"]]
        tokens = Tokens.fit(seen, protect=outcome)
        coded, kept_out = tokens.encode(seen), tokens.encode(held)
        tick("tokens")
        order = writing_order(mutual_information(coded, tokens.sizes), tokens.place[outcome])
        ordered = [isinstance(column, NumberTokens) for column in tokens.columns]
        counts = [np.bincount(coded[:, j], minlength=size) for j, size in enumerate(tokens.sizes)]
        self._policy = Policy(tokens.sizes, ordered, order, counts)
        learned = self._policy.fit(coded, kept_out, self.seed, tick=tick)
        self._tokens, self._schema = tokens, frame.schema
        self.rules = rules if rules is not None else self._mined(body, part, patient)
        tick("rules")
        holdout = np.sort(np.concatenate([part[role] for role in JUDGES]))
        self.audit_rows = AuditRows(frame[part["generator"]], frame[holdout], outcome, self.positive, groups)
        before, after = (self._outcomes(series) for series in (seen[outcome], self._shown(coded)[outcome]))
        self.summary_ = {
            "rows": {role: len(rows) for role, rows in part.items()},
            "outcomes": {"table": before, "tokens": after},
            "policy": learned,
        }
        return self

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
        asked = self._conditions(where or {})
        seeds = np.random.SeedSequence(self.seed if seed is None else seed).spawn(2)
        draw, inside = (np.random.default_rng(s) for s in seeds)
        given = np.full((n, len(self._tokens.columns)), FREE)
        for name, (token, _) in asked.items():
            given[:, self._tokens.place[name]] = token
        made: pl.DataFrame | None = None
        open_ = np.arange(n)
        for _ in range(_TURNS):
            drawn = self._policy.sample(given[open_], int(draw.integers(2**31)), lambda first: OnlySeen(self._policy.rows))
            fresh = self._written(drawn, inside, asked)
            broken = self.rules.violations(fresh)
            made = fresh if made is None else _put(made, open_, fresh)
            open_ = open_[broken.any(axis=1)]
            if not len(open_):
                break
        else:
            raise self._unkept(broken)
        assert made is not None
        return self._with_patients(made)

    def save(self, folder: str | Path) -> None:
        """Write the synthesizer, its rules to be reviewed beside it, into a folder. It holds patients' rows, for the audit.

        Raises
        ------
        InputError, OSError
            As ``write_model``.
        """
        tensors: dict[str, NDArray[Any]] = {}
        about = {
            "kind": KIND,
            "seed": self.seed,
            "outcome": self.outcome,
            "groups": self.groups,
            "positive": self.positive,
            "rules": to_yaml(self.rules),
            "summary": self.summary_,
            "tokens": pack(self._tokens, tensors),
            "policy": self._policy.state(tensors),
        }
        role = [pl.lit(i, dtype=pl.Int8).alias(_ROLE) for i in (0, 1)]
        records = pl.concat([self.audit_rows.train.with_columns(role[0]), self.audit_rows.holdout.with_columns(role[1])])
        write_model(folder, about, tensors, records)
        write_rules(self.rules, Path(folder) / RULES_FILE)

    @classmethod
    def load(cls, folder: str | Path) -> Synthesizer:
        """Read what ``save`` wrote; rules that were edited in the folder's rules.yaml hold.

        Raises
        ------
        ArtefactError
            Corrupt, or no synthesizer.
        RuleError
            Rules that cannot be read, or that speak of columns it does not have.
        """
        about, tensors, records = read_model(folder)
        if about.get("kind") != KIND:
            raise ArtefactError(f"{folder} holds no synthesizer")
        self = cls(seed=about["seed"])
        self.outcome, self.groups, self.positive = about["outcome"], about["groups"], about["positive"]
        edited = Path(folder) / RULES_FILE
        self.rules = read_rules(edited) if edited.is_file() else from_yaml(about["rules"])
        self.summary_ = about["summary"]
        self._tokens = unpack(about["tokens"], tensors, {part.__name__: part for part in _PARTS})
        self._policy = Policy.restored(about["policy"], tensors)
        train, holdout = (records.filter(pl.col(_ROLE) == i).drop(_ROLE) for i in (0, 1))
        self._schema = train.schema
        self.audit_rows = AuditRows(train, holdout, self.outcome, self.positive, self.groups)
        unknown = sorted({name for rule in self.rules for name in rule.columns} - set(self._schema))
        if unknown:
            raise RuleError(f"rules speak of columns that the table does not have: {unknown}. {did_you_mean(unknown, list(self._schema))}")
        return self

    # ---- fitting ------------------------------------------------------------------------------------------------------------------

    def _event(self, column: pl.Series, positive: Any) -> Ints:
        """Return which rows have the rare outcome (n,), and remember its value."""
        if len(column) < _FEWEST_ROWS:
            raise InputError(f"{len(column)} rows: a synthesizer needs {_FEWEST_ROWS}; fewer would be remembered, not learned")
        if column.null_count():
            raise InputError(f"outcome {column.name!r} is missing in {column.null_count()} rows: drop these")
        table = column.alias("value").value_counts(name="rows").sort(["rows", "value"])
        if table.height < 2:
            raise InputError(f"outcome {column.name!r} has one value only")
        self.positive = table["value"][0] if positive is None else positive
        event: Ints = (column == self.positive).to_numpy().astype(np.int64)
        if not event.any():
            raise InputError(f"no row of outcome {column.name!r} has the value that positive names")
        if event.sum() < _FEWEST_EVENTS:
            warnings.warn(
                f"{int(event.sum())} rows with the rare outcome, under {_FEWEST_EVENTS}: their share is kept; "
                "how they differ is not learned reliably",
                DataWarning,
                stacklevel=3,
            )
        return event

    def _mined(self, body: pl.DataFrame, part: dict[str, Ints], patient: Ints | None) -> Rules:
        """Mine on the rows that are learned from, and keep what holds on rows of other patients."""

        def recoded(role: str) -> pl.DataFrame:
            frame = body[part[role]]
            coded = self._tokens.encode(frame)
            shown = self._tokens.write(coded, self._numbers(frame, coded), body.schema)
            return shown.select(name for name, dtype in shown.schema.items() if not dtype.is_temporal())

        found = mine(recoded("generator"), self.seed, None if patient is None else patient[part["generator"]])
        broken = found.violations(recoded("rules")).mean(axis=0)
        return Rules(tuple(rule for rule, share in zip(found, broken, strict=True) if share <= _MOST_BROKEN))

    def _numbers(self, frame: pl.DataFrame, coded: Ints) -> NDArray[np.float64]:
        """Return the real numbers of number columns, so that only rare levels are recoded (n, d)."""
        out = np.full(coded.shape, np.nan)
        for j, column in enumerate(self._tokens.columns):
            if isinstance(column, NumberTokens):
                out[:, j] = column.numbers(frame.get_column(column.name))
        return out

    def _shown(self, coded: Ints) -> pl.DataFrame:
        body = pl.Schema({name: dtype for name, dtype in self._schema.items() if name != self.groups})
        return self._tokens.decode(coded, np.full(coded.shape, 0.5), body)

    @staticmethod
    def _outcomes(column: pl.Series) -> dict[str, int]:
        table = as_text(column, column.name).alias("value").value_counts(name="rows").sort("value")
        return dict(zip(table["value"].to_list(), table["rows"].to_list(), strict=True))

    # ---- sampling -----------------------------------------------------------------------------------------------------------------

    def _conditions(self, where: Mapping[str, Any]) -> dict[str, tuple[int, Any]]:
        """Return token and value of each condition."""
        unknown = [name for name in where if name not in self._tokens.place]
        if unknown:
            raise MissingColumns(unknown, list(self._tokens.place))
        train, out = self.audit_rows.train, {}
        met = np.ones(train.height, dtype=bool)
        for name, value in where.items():
            column = self._tokens.columns[self._tokens.place[name]]
            asked = pl.Series(name, [value], strict=False).cast(self._schema[name], strict=False)
            if value is not None and asked.null_count():
                raise InputError(f"where: {name!r} cannot have a value of type {type(value).__name__}, its dtype is {self._schema[name]}")
            token = int(column.encode(asked)[0])
            if isinstance(column, LevelTokens) and token == column.size - 1:
                raise InputError(
                    f"where: {name!r} has no such level, or fewer than five patients have it; levels: {list(column.levels)[:20]}"
                )
            if isinstance(column, NumberTokens) and token and not column.low[1] <= column.numbers(asked)[0] <= column.high[-1]:
                raise InputError(f"where: {name!r} lies outside what was learned ({column.low[1]:g} to {column.high[-1]:g})")
            met &= column.encode(train.get_column(name)) == token
            out[name] = (token, asked)
        if not met.any():
            raise InputError(f"where: no learned row meets these conditions together: {sorted(where)}. Drop one")
        return out

    def _written(self, tokens: Ints, draw: np.random.Generator, asked: Mapping[str, tuple[int, Any]]) -> pl.DataFrame:
        body = pl.Schema({name: dtype for name, dtype in self._schema.items() if name != self.groups})
        made = self._tokens.decode(tokens, draw.random(tokens.shape), body)
        return made.with_columns(
            pl.repeat(value[0], made.height, dtype=value.dtype, eager=True).alias(name) for name, (_, value) in asked.items()
        )

    def _with_patients(self, made: pl.DataFrame) -> pl.DataFrame:
        """Give each row a patient of its own, in the patients' column and dtype."""
        if self.groups is None:
            return made
        number = pl.int_range(1, made.height + 1, eager=True)
        dtype = self._schema[self.groups]
        fresh = number if dtype.is_numeric() else "synthetic-" + number.cast(pl.String)
        return made.with_columns(fresh.cast(dtype).alias(self.groups)).select(self._schema.names())

    def _unkept(self, broken: NDArray[np.bool_]) -> RuleError:
        worst = np.argsort(-broken.mean(axis=0), kind="stable")[:3]
        named = [str(rule) for j, rule in enumerate(self.rules) if j in worst and broken[:, j].any()]
        return RuleError(
            f"rows that keep all rules could not be drawn; broken most often: {named}. Do they contradict each other, or `where`?"
        )


def _put(made: pl.DataFrame, rows: Ints, fresh: pl.DataFrame) -> pl.DataFrame:
    """Put fresh rows in the place of some."""
    source = np.arange(made.height)
    source[rows] = made.height + np.arange(len(rows))
    return pl.concat([made, fresh])[source]
