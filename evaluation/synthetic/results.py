"""Results of the card of a synthetic table as typed values: what the page, the JSON and the command line read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import polars as pl

from nearward.evaluation.privacy_attacks.exact_copies import Copies
from nearward.evaluation.privacy_attacks.membership import Membership
from nearward.evaluation.privacy_attacks.residual_risk import AttackResult
from nearward.evaluation.stats.confidence import Estimate, rows_to_dicts
from nearward.tabular.errors import InputError
from nearward.tabular.rules.rules import Rules

Status = Literal["passed", "failed", "not measurable"]


@dataclass(frozen=True)
class Gates:
    """Thresholds that the lower 95 % bound of each component must reach. They are conventions, and can be changed.

    Parameters
    ----------
    fidelity : float
        .6 of the way from independent columns to real rows. Below it, relations that a reader would report may be lost.
    adherence : float
        .8: at most a fifth of the rule violations that shuffled columns show.
    inference : float
        .8: the advantage of the strongest attack, true less false positives on average, is at most .2 (AUC .6) with 95 % confidence.
    proven : float
        .01: an advantage whose lower bound is greater fails, whatever its size: a row has been repeated. Not 0, since with many thousand
        rows even harmless traces are significant.
    utility : float
        .7 of the average precision above chance that training on real rows gives.
    heterogeneity : float
        .7 of the coverage that real rows give, in the worst class or stratum.
    widest : float
        .3: a wider interval says that n is too small, not that the table is bad or good.
    """

    fidelity: float = 0.6
    adherence: float = 0.8
    inference: float = 0.8
    proven: float = 0.01
    utility: float = 0.7
    heterogeneity: float = 0.7
    widest: float = 0.3

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise InputError(f"Gates: {field.name} must be a number from 0 to 1, got {field.name}={value!r}")

    @property
    def laxer(self) -> list[str]:
        """The thresholds that are laxer than the default, as texts: a table that reaches them has not passed the usual audit."""
        default = Gates()
        faults = []
        for field in fields(self):
            value, usual = getattr(self, field.name), getattr(default, field.name)
            strict = value <= usual if field.name in ("proven", "widest") else value >= usual
            if not strict:
                faults.append(f"{field.name} {value:g} (default {usual:g})")
        return faults


@dataclass(frozen=True)
class Component:
    """One of the five components and its status.

    Parameters
    ----------
    letter, name : str
    estimate : Estimate or None
        None where it is undefined; ``why`` gives the reason.
    gate : float
        Threshold for the lower bound.
    status : str
        ``passed``, ``failed``, or ``not measurable``.
    why : str
    """

    letter: str
    name: str
    estimate: Estimate | None
    gate: float
    status: Status
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Fidelity:
    """Similarity of the synthetic table's marginals to real ones.

    Parameters
    ----------
    score : Estimate
        1 where the synthetic table is as near to the holdout as train is, 0 where as far as train with every column shuffled.
    distances : pl.DataFrame
        Mean total variation to the holdout of train, synthetic and independent columns, by the number of columns at a time.
    two_sample : Estimate
        1 − 2|AUC − ½| of a classifier of synthetic against holdout rows; 1: it does not separate them.
    rows : int
        Rows of train and of the synthetic table that were compared. They are equally many, since smaller tables differ more by chance.
    """

    score: Estimate
    distances: pl.DataFrame
    two_sample: Estimate
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields but the score as a dictionary, for JSON."""
        return {"distances": rows_to_dicts(self.distances), "two_sample": asdict(self.two_sample), "rows": self.rows}


@dataclass(frozen=True)
class Adherence:
    """Rule violations in the synthetic table.

    Parameters
    ----------
    score : Estimate or None
        1 where synthetic rows violate rules no more often than the holdout, 0 where as often as independent columns; None without rules.
    rules : Rules
        Rules mined on train, and the user's.
    rates : pl.DataFrame
        Share of rows that violate each rule, in holdout, synthetic and independent columns, worst first.
    """

    score: Estimate | None
    rules: Rules
    rates: pl.DataFrame

    def to_dict(self, *, with_rules: bool = True) -> dict[str, Any]:
        """Return the rates as a dictionary, for JSON; a rule's text contains values of patients."""
        return {"rules": rows_to_dicts(self.rates if with_rules else self.rates.drop("rule"))}


@dataclass(frozen=True)
class Utility:
    """Performance of models that were trained on the synthetic table.

    Parameters
    ----------
    score : Estimate or None
        (AP trained on synthetic − π) / (AP trained on real − π), AP the mean over learners, π the event rate of the holdout. None where
        models trained on real rows do no better than chance.
    ratio : Estimate
        AP trained on synthetic / AP trained on real, without correction for chance: the usual figure. It flatters where events are many.
    learners : pl.DataFrame
        AUPRC of both models of each learner, differences (synthetic less real) of AUROC and Brier score, calibration slopes, net benefits.
    threshold : float
        Risk at which net benefit is computed: train's event rate.
    rows, events : int
        Rows each model was trained on; events in the holdout.
    """

    score: Estimate | None
    ratio: Estimate
    learners: pl.DataFrame
    threshold: float
    rows: int
    events: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures beside the score as a dictionary, for JSON."""
        ratio, learners = asdict(self.ratio), rows_to_dicts(self.learners)
        return {"ratio": ratio, "threshold": self.threshold, "rows": self.rows, "learners": learners}


@dataclass(frozen=True)
class Heterogeneity:
    """Coverage of real rows by the synthetic table, in outcome classes and strata.

    Parameters
    ----------
    score : Estimate or None
        The smallest ratio, over classes and strata, of the coverage by synthetic rows to that by holdout rows; None where every class and
        stratum is too small.
    strata : pl.DataFrame
        Rows of each class and stratum, coverage by holdout and by synthetic rows, and their ratio.
    shift : Estimate
        |q − p|: difference between the event shares of the synthetic table and of train.
    shares : pl.DataFrame
        The event share of each table.
    patterns : pl.DataFrame
        Share of train's rare patterns, pairs of bins of five rows to 1 %, that holdout and synthetic table have, too.
    """

    score: Estimate | None
    strata: pl.DataFrame
    shift: Estimate
    shares: pl.DataFrame
    patterns: pl.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """Return the fields but the score as a dictionary, for JSON."""
        frames = {"strata": self.strata, "shares": self.shares, "patterns": self.patterns}
        tables = {name: rows_to_dicts(frame) for name, frame in frames.items()}
        return {"strata": tables["strata"], "shift": asdict(self.shift), "shares": tables["shares"], "patterns": tables["patterns"]}


@dataclass(frozen=True)
class CardResults:
    """Results of ``faith_card``.

    Parameters
    ----------
    components : dict of letter -> Component
        ``F``, ``A``, ``I``, ``T``, ``H``.
    fidelity, adherence, membership, utility, heterogeneity
        Evidence of each component.
    guesses : tuple of AttackResult
        Singling out, linkability, attribute inference: residual risks, which have no threshold.
    copies : Copies
        A copy check, not a privacy figure.
    notes : tuple of str
        Remarks about the tables.
    outcome : str
    rows : dict of table -> rows
    gates : Gates
    seed : int
    steered : Membership or None
        The same attacks on members that the generator was tuned on and not fitted to; I is the worse of both.
    event : str, optional
        The outcome value that is the event.
    """

    components: dict[str, Component]
    fidelity: Fidelity
    adherence: Adherence
    membership: Membership
    guesses: tuple[AttackResult, ...]
    utility: Utility
    heterogeneity: Heterogeneity
    copies: Copies
    notes: tuple[str, ...]
    outcome: str
    rows: dict[str, int]
    gates: Gates
    seed: int
    steered: Membership | None = None
    event: str | None = None

    @property
    def passed(self) -> bool:
        """Whether all five components passed; a component that is not measurable has not."""
        return all(component.status == "passed" for component in self.components.values())

    @property
    def rules(self) -> Rules:
        """The rules that were tested; ``nearward.tabular.rules.yaml_io.write_rules`` writes them for editing."""
        return self.adherence.rules

    def __str__(self) -> str:
        lines = []
        for c in self.components.values():
            estimate = "–" if c.estimate is None else str(c.estimate)
            lines.append(f"{c.letter}  {c.name:<22} {estimate:<26} {c.status:<15} {c.why}")
        return "\n".join(lines)
