"""Page of the card of a synthetic table: frames and figures; the words are in ``evaluation/templates/card.html.jinja``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from nearward.evaluation.html_page import BLUE, GREY, INK, VERMILION, render
from nearward.evaluation.privacy_attacks.membership import ALL_ROWS
from nearward.evaluation.privacy_attacks.residual_risk import attack_table
from nearward.evaluation.provenance import Provenance
from nearward.evaluation.stats.confidence import estimate_series
from nearward.evaluation.synthetic.json_report import DISCLAIMER
from nearward.evaluation.synthetic.results import CardResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_RULES = 25
_MAX_RISK = 0.05  # a residual risk whose lower bound is greater gets a warning


def card_page(card: CardResults, provenance: Provenance | None = None) -> str:
    """Return the page of a card."""
    attacks, rates = card.membership.attacks, card.adherence.rates
    controls = attacks.filter(pl.col("rows") == ALL_ROWS)["control"]
    leaking = attacks.filter((pl.col("rows") != ALL_ROWS) & (pl.col("verdict") == "tells members"))
    return render(
        "card.html.jinja",
        provenance,
        card=card,
        names={status: [c.name for c in card.components.values() if c.status == status] for status in ("failed", "not measurable")},
        components=_component_table(card),
        component_figure=_component_figure(card),
        rules=rates.head(_MAX_RULES).drop("kind"),
        mined=rates.get_column("source").to_list().count("mined"),
        max_rules=_MAX_RULES,
        attack_figure=_attack_figure(card),
        biased_split=any(one is not None and not one.low <= 0.5 <= one.high for one in controls),
        leaking_groups=leaking.get_column("rows").unique().sort().to_list(),
        residual_risks=attack_table(card.guesses),
        risky=[attack.name for attack in card.guesses if attack.risk.low > _MAX_RISK],
        max_risk=_MAX_RISK,
        weak=[attack.name for attack in card.guesses if not attack.trusted],
        disclaimer=DISCLAIMER,
    )


def _component_table(card: CardResults) -> pl.DataFrame:
    components = card.components.values()
    return pl.DataFrame(
        {
            "letter": [c.letter for c in components],
            "component": [c.name for c in components],
            "estimate (95 %)": estimate_series("estimate (95 %)", [c.estimate for c in components]),
            "gate": [c.gate for c in components],
            "status": [c.status for c in components],
            "why": [c.why for c in components],
        }
    )


def _component_figure(card: CardResults) -> Figure:
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(5.0, 2.9), layout="constrained")
    axes = drawing.subplots()
    for y, component in enumerate(reversed(card.components.values())):
        axes.plot([component.gate] * 2, [y - 0.32, y + 0.32], color=GREY, linewidth=2)
        estimate = component.estimate
        if estimate is None:
            axes.text(0.02, y, "not measurable", va="center", color=INK)
            continue
        colour, marker = {"passed": (BLUE, "o"), "failed": (VERMILION, "X")}.get(component.status, (GREY, "s"))
        axes.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=2.5)
        axes.plot([estimate.value], [y], marker, color=colour, markersize=7)
    axes.set_yticks(range(len(card.components)), [component.name for component in reversed(card.components.values())])
    axes.set(xlim=(-0.02, 1.02), xlabel="0: as bad as the anchor; 1: as good as real rows.\nGrey bar: gate")
    axes.spines[["top", "right"]].set_visible(False)
    return drawing


def _attack_figure(card: CardResults) -> Figure:
    from matplotlib.figure import Figure

    attacks = card.membership.attacks.filter(pl.col("rows") == ALL_ROWS).reverse()
    drawing = Figure(figsize=(5.0, 2.9), layout="constrained")
    axes = drawing.subplots()
    for y, auc in enumerate(attacks.get_column("AUC").to_list()):
        colour, marker = (VERMILION, "X") if auc.low > 0.5 else (BLUE, "o")
        axes.plot([auc.low, auc.high], [y, y], color=colour, linewidth=2.5)
        axes.plot([auc.value], [y], marker, color=colour, markersize=7)
    axes.axvline(0.5, color=GREY, linewidth=1.5)
    axes.set_yticks(range(attacks.height), attacks.get_column("attack").to_list())
    axes.set(xlabel="AUC: members against non-members")
    axes.spines[["top", "right"]].set_visible(False)
    return drawing
