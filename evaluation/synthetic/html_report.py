"""The FAITH-style card as a page and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import polars as pl

from nearward.evaluation.html_page import BLUE, GREY, VERMILION, Page, figure, notice, paragraph, table
from nearward.evaluation.privacy_attacks.membership import EVERYONE, Membership
from nearward.evaluation.privacy_attacks.residual_risk import AttackResult, listed
from nearward.evaluation.stats.confidence import Estimate, estimate_series
from nearward.evaluation.synthetic.card import FaithCard

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_RULES = 25
_WORRYING = 0.05  # residual risk proven to be greater is worth a word
_TRUST = "Cannot be trusted: the attack did no better than its baseline; a poor attack is no proof of safety."
DISCLAIMER = (
    "FAITH-style (our definition). Distances are measured, attacks are tried; neither is a proof of anonymity, and no figure here bounds "
    "what a stronger attacker, or one with other knowledge, could learn. Differential privacy is the only bound of that kind."
)


def as_json(card: FaithCard) -> dict[str, Any]:
    """Return the card as plain dictionaries, lists, texts and numbers."""
    return {
        "card": "FAITH-style (our definition)",
        "passed": card.passed,
        "outcome": card.outcome,
        "rows": card.rows,
        "seed": card.seed,
        "gates": asdict(card.gates),
        "notes": list(card.notes),
        "components": {letter: {**asdict(one), "estimate": _plain(one.estimate)} for letter, one in card.components.items()},
        "fidelity": {
            "distances": _rows(card.fidelity.distances),
            "two_sample": _plain(card.fidelity.two_sample),
            "rows": card.fidelity.rows,
        },
        "adherence": {"rules": _rows(card.adherence.rates)},
        "membership": _told(card.membership),
        "membership_of_steering_rows": None if card.steered is None else _told(card.steered),
        "residual_risk": _rows(listed(list(card.guesses))),
        "utility": {
            "ratio": _plain(card.utility.ratio),
            "threshold": card.utility.threshold,
            "rows": card.utility.rows,
            "learners": _rows(card.utility.learners),
        },
        "heterogeneity": {
            "strata": _rows(card.heterogeneity.strata),
            "shift": _plain(card.heterogeneity.shift),
            "shares": _rows(card.heterogeneity.shares),
            "patterns": _rows(card.heterogeneity.patterns),
        },
        "copy_check": {
            "what": "a copy check, not a privacy figure",
            "identical": _plain(card.copies.identical),
            "usual": _plain(card.copies.usual),
            "distances": _rows(card.copies.distances),
        },
        "says": DISCLAIMER,
    }


def for_readers(card: FaithCard) -> dict[str, Any]:
    """Return the card as ``as_json`` does, for those who may not see real rows: of each rule its kind, its source and its numbers.

    Bounds and levels of mined rules are values of patients.
    """
    return as_json(card) | {"adherence": {"rules": _rows(card.adherence.rates.drop("rule"))}}


def _told(found: Membership) -> dict[str, Any]:
    return {"flagged": found.flagged, "judged": found.judged, "attacks": _rows(found.attacks)}


def _plain(value: Any) -> Any:
    return asdict(value) if isinstance(value, Estimate) else value


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [{name: _plain(value) for name, value in zip(frame.columns, row, strict=True)} for row in frame.rows()]


def faith_page(card: FaithCard) -> Page:
    """Lay out a card."""
    rows = ", ".join(f"{n} rows in {name}" for name, n in card.rows.items())
    page = Page("FAITH-style card of a synthetic table", f"Outcome {card.outcome}; {rows}; seed {card.seed}. FAITH-style: our definition.")
    page.section("Verdict", *_verdict(card))
    page.section("F: fidelity", *_fidelity(card))
    page.section("A: adherence to rules", *_adherence(card))
    page.section("I: inference resistance", *_membership(card))
    page.section("What else an attacker learns", *_residual(card))
    page.section("T: task utility", *_utility(card))
    page.section("H: heterogeneity", *_heterogeneity(card))
    page.section("Copy check (not a privacy figure)", *_copies(card))
    page.section(
        "What this card does not say", paragraph(DISCLAIMER), paragraph("docs/reference/faith-card.md says how each number is made.")
    )
    return page


def _verdict(card: FaithCard) -> list[str]:
    parts = list(card.components.values())
    failed = [c.name for c in parts if c.status == "failed"]
    unknown = [c.name for c in parts if c.status == "not measurable"]
    if card.passed:
        box = notice("all five components pass their gates.", "good")
    elif failed:
        box = notice(f"{', '.join(failed)}. This table should not be handed out, or relied on, on the strength of this card.", "bad")
    else:
        box = notice(f"not measurable: {', '.join(unknown)}. Nothing failed, and the card did not pass.", "warning")
    shown = pl.DataFrame(
        {
            "": [c.letter for c in parts],
            "component": [c.name for c in parts],
            "estimates": estimate_series("estimates", [c.estimate for c in parts]),
            "gate": [c.gate for c in parts],
            "status": [c.status for c in parts],
            "why": [c.why for c in parts],
        }
    ).rename({"estimates": "estimate (95 %)"})
    drawn = figure(_dots(card), "The five components: estimate, 95 % interval, and the gate that the lower end must reach.")
    notes = [notice(note) for note in card.notes]
    return [box, drawn, table(shown, "Five components, each from 0 to 1, never averaged."), *notes]


def _dots(card: FaithCard) -> Figure:
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(6.4, 2.7), layout="constrained")
    axes = drawing.subplots()
    for y, part in enumerate(reversed(card.components.values())):
        axes.plot([part.gate] * 2, [y - 0.32, y + 0.32], color=GREY, linewidth=2)
        if part.estimate is None:
            axes.text(0.02, y, "not measurable", va="center", color=GREY)
            continue
        colour, marker = (BLUE, "o") if part.status == "passed" else (VERMILION, "X") if part.status == "failed" else (GREY, "s")
        axes.plot([part.estimate.low, part.estimate.high], [y, y], color=colour, linewidth=2.5)
        axes.plot([part.estimate.value], [y], marker, color=colour, markersize=7)
    axes.set_yticks(range(len(card.components)), [part.name for part in reversed(card.components.values())])
    axes.set(xlim=(-0.02, 1.02), xlabel="0: as bad as the anchor; 1: as good as real rows. Grey bar: gate")
    axes.spines[["top", "right"]].set_visible(False)
    return drawing


def _fidelity(card: FaithCard) -> list[str]:
    found = card.fidelity
    return [
        paragraph(
            "How far the table's counts lie from those of the holdout, with one, two and three columns crossed, between train (1) and "
            "train with every column shuffled (0)."
        ),
        table(found.distances, f"Mean total variation to the holdout, {found.rows} rows each."),
        paragraph(f"A classifier that tells synthetic from holdout rows: 1 − 2|AUC − ½| = {found.two_sample}; 1 means that it cannot."),
    ]


def _adherence(card: FaithCard) -> list[str]:
    rates = card.adherence.rates
    if not rates.height:
        return [paragraph("No rule holds in train firmly enough to be judged, and none was given.")]
    mined = int((rates.get_column("source") == "mined").sum())
    told = f"{rates.height} rules, {mined} of them mined on one part of train and confirmed on another. Worst first, at most {_MOST_RULES}."
    return [table(rates.head(_MOST_RULES).drop("kind"), f"Share of rows that break each rule. {told}")]


def _membership(card: FaithCard) -> list[str]:
    found = card.membership
    parts = [
        paragraph(
            f"Attackers who hold a row, the synthetic table and other real rows guess whether the row was in train: {found.judged} rows "
            "judged, half of them members. AUC ½ is chance. Baseline: the same without the synthetic table. Control: real rows in its "
            "place. Intervals hold for all attacks together. Outliers and the event are told apart and not counted in the component."
        ),
        figure(_forest(card), "Membership attacks on all rows: AUC with intervals that hold together; one half is chance."),
        table(found.attacks, f"Membership attacks. {_TRUST}"),
    ]
    if any(one is not None and not one.low <= 0.5 <= one.high for one in found.attacks.filter(pl.col("rows") == EVERYONE)["control"]):
        parts.append(notice("train and holdout differ by themselves (control): the split was not random, and the attacks cannot be read."))
    worst = found.attacks.filter((pl.col("rows") != EVERYONE) & (pl.col("verdict") == "tells members"))
    if worst.height:
        groups = ", ".join(worst.get_column("rows").unique().sort())
        parts.append(notice(f"attacks tell members among: {groups}."))
    if card.steered is not None:
        told = f"The same on {card.steered.judged} rows, the members among them those that steered the generator and were not learned from."
        parts.append(table(card.steered.attacks.drop("control"), told))
    return parts


def _forest(card: FaithCard) -> Figure:
    from matplotlib.figure import Figure

    shown = card.membership.attacks.filter(pl.col("rows") == EVERYONE).reverse()
    drawing = Figure(figsize=(6.4, 2.7), layout="constrained")
    axes = drawing.subplots()
    for y, area in enumerate(shown.get_column("AUC").to_list()):
        colour = VERMILION if area.low > 0.5 else BLUE
        axes.plot([area.low, area.high], [y, y], color=colour, linewidth=2.5)
        axes.plot([area.value], [y], "X" if area.low > 0.5 else "o", color=colour, markersize=7)
    axes.axvline(0.5, color=GREY, linewidth=1.5)
    axes.set_yticks(range(shown.height), shown.get_column("attack").to_list())
    axes.set(xlabel="AUC: members against non-members")
    axes.spines[["top", "right"]].set_visible(False)
    return drawing


def _residual(card: FaithCard) -> list[str]:
    shown = listed(list(card.guesses))
    parts = [
        paragraph(
            "Right guesses about rows of train (attack), by lot (baseline), and about rows that were not in train (control). Risk: of what "
            "the control left to find, the share found. Not part of the gate."
        ),
        table(shown, f"Singling out, linking, inferring a value (after anonymeter's protocol, re-implemented). {_TRUST}"),
    ]
    worrying = [one.name for one in card.guesses if one.risk.low > _WORRYING]
    if worrying:
        parts.append(notice(f"residual risk is proven to be above {_WORRYING:.0%} for: {', '.join(worrying)}."))
    if weak := weak_attacks(card.guesses):
        parts.append(
            notice(f"{len(weak)} attacks did no better than their baseline; their result cannot be trusted, which is no proof of safety.")
        )
    return parts


def weak_attacks(guesses: tuple[AttackResult, ...]) -> list[str]:
    """Name the attacks that did no better than their baseline."""
    return [one.name for one in guesses if not one.trusted]


def _utility(card: FaithCard) -> list[str]:
    found = card.utility
    told = f"{found.rows} rows each; {found.events} events in the holdout; net benefit at a risk of {found.threshold:.3f}."
    return [
        paragraph("Models trained on synthetic and on real rows, both judged on the holdout. Δ: synthetic less real."),
        table(found.learners, f"Learners. {told} A dash: not defined, as the slope of risks that are all equal."),
    ]


def _heterogeneity(card: FaithCard) -> list[str]:
    found = card.heterogeneity
    return [
        table(found.strata, "Share of train rows that have a holdout, or synthetic, row within the distance to their fifth neighbour."),
        table(found.shares, f"Event share; synthetic and train differ by {found.shift}."),
        table(found.patterns, "Rare patterns of train (pairs of bins that five rows to 1 % have) that are in the other tables, too."),
    ]


def _copies(card: FaithCard) -> list[str]:
    found = card.copies
    parts = [
        paragraph(
            f"Synthetic rows identical to a row of train: {found.identical}; holdout rows: {found.usual}. Distances to the closest record "
            "find careless copying and nothing else."
        ),
        table(found.distances, "Distance to the closest row of train, in the space of docs/reference/faith-card.md."),
    ]
    if found.suspicious:
        parts.append(notice("more synthetic rows repeat a row of train than holdout rows do.", "bad"))
    return parts
