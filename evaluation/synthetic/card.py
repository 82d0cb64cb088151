"""The FAITH-style card (our definition): fidelity, adherence, inference resistance, task utility, heterogeneity of a synthetic table.

Five numbers in [0, 1], each between two anchors made of real rows, each with its interval and its own gate, and no sum of them: a table
that leaks is not mended by being useful. docs/reference/faith-card.md says how each is made and what it does not say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl

from nearward.evaluation.privacy_attacks.attribute_inference import inference
from nearward.evaluation.privacy_attacks.exact_copies import Copies, copies
from nearward.evaluation.privacy_attacks.holdout_overlap import Overlap, overlap
from nearward.evaluation.privacy_attacks.linkability import linkability
from nearward.evaluation.privacy_attacks.membership import Membership, membership
from nearward.evaluation.privacy_attacks.residual_risk import AttackResult
from nearward.evaluation.privacy_attacks.singling_out import singling_out
from nearward.evaluation.stats.confidence import Estimate
from nearward.evaluation.synthetic.adherence import Adherence, adherence
from nearward.evaluation.synthetic.fidelity import Fidelity, fidelity
from nearward.evaluation.synthetic.heterogeneity import Heterogeneity, heterogeneity
from nearward.evaluation.synthetic.utility import Utility, utility
from nearward.evaluation.tables.inputs import Frame, Tables, read_tables
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.errors import InputError, MissingColumns
from nearward.tabular.parallel import parallel_map, single_threaded
from nearward.tabular.rules.rules import Rules
from nearward.tabular.rules.yaml_io import read_rules

Status = Literal["passed", "failed", "not measurable"]

_FEWEST_STEERED = 40  # rows: fewer cannot be attacked in two halves


@dataclass(frozen=True)
class Gates:
    """Where each component's lower 95 % bound must lie for the card to pass. They are conventions, and may be set otherwise.

    Parameters
    ----------
    fidelity : float
        .6: of the way from independent columns to real rows; below it, relations that a reader would report may be gone.
    adherence : float
        .8: at most a fifth of the rule breaking that shuffled columns show.
    inference : float
        .8: the strongest attacker's advantage, true less false alarms on average, is at most .2 (AUC .6) with 95 % confidence.
    proven : float
        .01: an advantage proven to be greater fails whatever its size: someone's row has been repeated. Not 0, since with many
        thousand rows even harmless traces can be proven.
    utility : float
        .7: of the average precision above chance that real rows would have taught.
    heterogeneity : float
        .7: of the coverage that real rows give, in the worst class or stratum.
    widest : float
        .3: an interval wider than this says that n is too small, not that the table is bad or good.
    """

    fidelity: float = 0.6
    adherence: float = 0.8
    inference: float = 0.8
    proven: float = 0.01
    utility: float = 0.7
    heterogeneity: float = 0.7
    widest: float = 0.3


@dataclass(frozen=True)
class Component:
    """One of the five.

    Parameters
    ----------
    letter, name : str
    estimate : Estimate or None
        None where it cannot be reckoned; ``why`` says for what reason.
    gate : float
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


@dataclass(frozen=True)
class FaithCard:
    """What ``faith_card`` found.

    Parameters
    ----------
    components : dict of letter -> Component
        ``F``, ``A``, ``I``, ``T``, ``H``.
    fidelity, adherence, membership, utility, heterogeneity
        What each component rests on.
    guesses : tuple of Guesses
        Singling out, linkability, attribute inference: residual risks, beside the gate.
    copies : Copies
        A copy check, not a privacy figure.
    notes : tuple of str
        What was noticed about the tables.
    outcome : str
    rows : dict of table -> rows
    gates : Gates
    seed : int
    steered : Membership or None
        The same attacks on members that the generator was steered by and not fitted to; I counts the worse of both.
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

    @property
    def passed(self) -> bool:
        """Whether all five components passed; one that could not be measured has not."""
        return all(component.status == "passed" for component in self.components.values())

    @property
    def rules(self) -> Rules:
        """The rules that were judged; ``nearward.tabular.rules.yaml_io.write_rules`` writes them to be edited."""
        return self.adherence.rules

    def to_html(self, path: str | Path) -> None:
        """Write the card as one self-contained page."""
        from nearward.evaluation.html_page import write
        from nearward.evaluation.synthetic.html_report import faith_page

        write(faith_page(self), path)

    def to_json(self, path: str | Path) -> None:
        """Write the card as JSON."""
        from nearward.evaluation.html_page import write_json
        from nearward.evaluation.synthetic.html_report import as_json

        write_json(as_json(self), path)

    def __str__(self) -> str:
        lines = [f"{c.letter}  {c.name:<22} {_shown(c.estimate):<26} {c.status:<15} {c.why}" for c in self.components.values()]
        return "\n".join(lines)


def faith_card(
    *,
    train: Frame,
    holdout: Frame,
    synthetic: Frame,
    outcome: str,
    positive: Any = None,
    group: str | None = None,
    rules: str | Path | Rules | None = None,
    gates: Gates | None = None,
    seed: int = 0,
    steered: Frame | None = None,
) -> FaithCard:
    """Judge a synthetic table against the rows it was made from and real rows that its maker never saw.

    Parameters
    ----------
    train, holdout, synthetic : pl.DataFrame or pl.LazyFrame
        The same columns. Train and holdout must be a random split, by patient where patients repeat; columns that name rows must go.
    outcome : str
        A column with two values.
    positive : value, optional
        Which is the event; by default the greater of the two. Then the column may have more than two values.
    group : str, optional
        Column of train and holdout that names the patients.
    rules : path or Rules, optional
        Rules of the user's own, beside those mined on train.
    gates : Gates, optional
    seed : int, from 0
    steered : pl.DataFrame or pl.LazyFrame, optional
        Further real rows that the generator was steered by and not fitted to (they stopped its learning, say). Their patients are members
        like those of train, are attacked apart, and are looked for among copies.

    Returns
    -------
    FaithCard

    Raises
    ------
    InputError, MissingColumns, DifferentTables, SharedPatients, TooFewEvents, RuleError
        Tables, an outcome or rules that cannot be judged; see ``nearward.evaluation.tables.inputs.read_tables``.

    Examples
    --------
    >>> card = faith_card(train=train, holdout=holdout, synthetic=synthetic, outcome="died")  # doctest: +SKIP
    >>> card.passed, card.components["I"].estimate  # doctest: +SKIP
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"seed must be a whole number from 0, got seed={seed!r}")
    gates = gates or Gates()
    own = rules if isinstance(rules, Rules) or rules is None else read_rules(rules)
    tables = read_tables(train, holdout, synthetic, outcome, positive, group)
    everybody, aside = (tables, None) if steered is None else _steering(train, holdout, synthetic, steered, outcome, positive, group)
    kept = adherence(tables, own, seed)  # first: a rule that cannot be read should not wait for the attacks
    _ = tables.embedding  # before the pieces, which would each fit it
    pieces: dict[str, Callable[[], Any]] = {
        "useful": partial(utility, tables, seed),
        "told": partial(membership, tables, seed),
        "inferred": partial(inference, tables, seed),
        "single": partial(singling_out, tables, seed),
        "like": partial(fidelity, tables, seed),
        "various": partial(heterogeneity, tables, seed),
        "linked": partial(linkability, tables, seed),
        "copied": partial(copies, everybody, seed),
    }
    if aside is not None:
        pieces["steered"] = partial(membership, aside, seed, control=False)
    with single_threaded("faiss", "sklearn.ensemble"):
        found = dict(zip(pieces, parallel_map(lambda piece: piece(), list(pieces.values())), strict=True))
    like, told, useful, various = found["like"], found["told"], found["useful"], found["various"]
    components = {
        "F": _gated("F", "Fidelity", like.score, gates.fidelity, gates),
        "A": _gated("A", "Adherence", kept.score, gates.adherence, gates, "no rule holds in train: give rules="),
        "I": _unseen(_worse(_inference(told, gates), found.get("steered"), everybody is not tables, gates), overlap(everybody)),
        "T": _gated("T", "Task utility", useful.score, gates.utility, gates, "real rows teach nothing certain about the outcome"),
        "H": _gated("H", "Heterogeneity", various.score, gates.heterogeneity, gates, "no class or stratum is large enough"),
    }
    return FaithCard(
        components=components,
        fidelity=like,
        adherence=kept,
        membership=told,
        guesses=(*found["single"], *found["linked"], *found["inferred"]),
        utility=useful,
        heterogeneity=various,
        copies=found["copied"],
        notes=tables.notes,
        outcome=tables.outcome,
        rows={"train": tables.train.height, "holdout": tables.holdout.height, "synthetic": tables.synthetic.height},
        gates=gates,
        seed=seed,
        steered=found.get("steered"),
    )


def _steering(
    train: Frame, holdout: Frame, synthetic: Frame, steered: Frame, outcome: str, positive: Any, group: str | None
) -> tuple[Tables, Tables | None]:
    """Return the tables with all members in train, and with those that steered alone; None where they are too few to be attacked."""
    first, more = to_frame(train), to_frame(steered)
    if missing := [name for name in first.columns if name not in more.columns]:
        raise MissingColumns(missing, more.columns)
    both = read_tables(pl.concat([first, more.select(first.columns)]), holdout, synthetic, outcome, positive, group)
    patient = both.train_patient_ids[first.height :]
    enough = more.height >= _FEWEST_STEERED and len(set(patient.tolist())) >= _FEWEST_STEERED // 2
    return both, replace(both, train=both.train[first.height :], train_patient_ids=patient) if enough else None


def _gated(letter: str, name: str, estimate: Estimate | None, gate: float, gates: Gates, unless: str = "") -> Component:
    if estimate is None:
        return Component(letter, name, None, gate, "not measurable", unless)
    if estimate.high < gate:
        return Component(letter, name, estimate, gate, "failed", f"upper bound < {gate:g}")
    if estimate.high - estimate.low > gates.widest + 1e-9:
        return Component(letter, name, estimate, gate, "not measurable", f"n too small: interval wider than {gates.widest:g}")
    if estimate.low < gate:
        return Component(letter, name, estimate, gate, "failed", f"lower bound < {gate:g}")
    return Component(letter, name, estimate, gate, "passed", f"lower bound ≥ {gate:g}")


def _inference(told: Membership, gates: Gates) -> Component:
    proven = 1 - told.score.high
    if proven > gates.proven:
        why = f"advantage ≥ {proven:.3f} proven: members can be told"
        return Component("I", "Inference resistance", told.score, gates.inference, "failed", why)
    return _gated("I", "Inference resistance", told.score, gates.inference, gates)


def _worse(learned: Component, steered: Membership | None, asked: bool, gates: Gates) -> Component:
    """Count the worse of two attacks: on members that were learned from, and on those that steered."""
    if steered is None:
        short = f"fewer than {_FEWEST_STEERED} rows that steered the generator"
        return replace(learned, status="not measurable", why=short) if asked and learned.status == "passed" else learned
    other = _inference(steered, gates)
    rank = {"passed": 0, "not measurable": 1, "failed": 2}
    if rank[other.status] <= rank[learned.status]:
        return learned
    return replace(other, why=f"patients that steered the generator: {other.why}")


def _unseen(found: Component, shared: Overlap) -> Component:
    """Let nobody pass by a holdout that was not unseen: attackers cannot tell members from themselves. A leak found even so stays one."""
    if found.status == "failed" or not shared.proven:
        return found
    why = f"the holdout repeats rows of train: {shared.found} different rows are in both, {shared.expected:.0f} would be by chance"
    return replace(found, estimate=None, status="not measurable", why=why)


def _shown(estimate: Estimate | None) -> str:
    return "–" if estimate is None else str(estimate)
