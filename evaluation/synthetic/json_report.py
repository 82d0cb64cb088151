"""The card of a synthetic table as JSON, for its owner and for readers outside."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from nearward.evaluation.privacy_attacks.residual_risk import attack_table
from nearward.evaluation.stats.confidence import rows_to_dicts
from nearward.evaluation.synthetic.results import CardResults
from nearward.evaluation.synthetic.small_counts import suppress_json_counts

DISCLAIMER = (
    "FAITH-style (our definition). Distances are measured, attacks are tried; neither is a proof of anonymity, and no figure here bounds "
    "what a stronger attacker, or one with other knowledge, could learn. Differential privacy is the only bound of that kind."
)


def card_json(card: CardResults) -> dict[str, Any]:
    """Return the card as dictionaries, lists, texts and numbers."""
    return {
        "card": "FAITH-style (our definition)",
        "passed": card.passed,
        "outcome": card.outcome,
        "event": card.event,
        "rows": card.rows,
        "seed": card.seed,
        "gates": asdict(card.gates),
        "notes": list(card.notes),
        "components": {letter: component.to_dict() for letter, component in card.components.items()},
        "fidelity": card.fidelity.to_dict(),
        "adherence": card.adherence.to_dict(),
        "membership": card.membership.to_dict(),
        "membership_of_steering_rows": None if card.steered is None else card.steered.to_dict(),
        "residual_risk": rows_to_dicts(attack_table(card.guesses)),
        "utility": card.utility.to_dict(),
        "heterogeneity": card.heterogeneity.to_dict(),
        "copy_check": {"what": "a copy check, not a privacy figure", **card.copies.to_dict()},
        "says": DISCLAIMER,
    }


def public_card_json(card: CardResults) -> dict[str, Any]:
    """Return the card for readers without access to real rows.

    Of each rule its kind, source and numbers, but not its text: bounds and categories of mined rules are values of patients. Small counts
    of rows are suppressed (``small_counts.py``); the five scores, which are no counts, stay.
    """
    body = card_json(card) | {"adherence": card.adherence.to_dict(with_rules=False)}
    shown: dict[str, Any] = suppress_json_counts(body)
    return shown | {"components": body["components"]}
