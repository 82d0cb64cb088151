"""The FAITH-style card (our definition): fidelity, adherence, inference resistance, task utility, heterogeneity of a synthetic table.

Five scores in [0, 1], each anchored on real rows, each with an interval and a threshold of its own. They are never summed: no utility
compensates for a leak. docs/reference/faith-card.md defines each score and its limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from nearward.evaluation.privacy_attacks.attribute_inference import attribute_inference
from nearward.evaluation.privacy_attacks.exact_copies import copies
from nearward.evaluation.privacy_attacks.holdout_overlap import Overlap, overlap
from nearward.evaluation.privacy_attacks.linkability import linkability
from nearward.evaluation.privacy_attacks.membership import Membership, membership
from nearward.evaluation.privacy_attacks.singling_out import singling_out
from nearward.evaluation.provenance import Provenance
from nearward.evaluation.stats.confidence import Estimate
from nearward.evaluation.synthetic.adherence import adherence
from nearward.evaluation.synthetic.fidelity import fidelity
from nearward.evaluation.synthetic.heterogeneity import heterogeneity
from nearward.evaluation.synthetic.results import CardResults, Component, Gates
from nearward.evaluation.synthetic.small_counts import describe_count
from nearward.evaluation.synthetic.utility import utility
from nearward.evaluation.tables.inputs import Frame, Tables, read_tables
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.errors import InputError, require_columns
from nearward.tabular.parallel import parallel_map, single_threaded
from nearward.tabular.rules.rules import Rules
from nearward.tabular.rules.yaml_io import read_rules

_MIN_STEERED = 40  # rows: fewer cannot be attacked in two halves


class FaithCard(CardResults):
    """Results of ``faith_card``, with a page and JSON."""

    def to_html(self, path: str | Path, provenance: Provenance | None = None) -> None:
        """Write the card as one self-contained page."""
        from nearward.evaluation.html_page import write_html
        from nearward.evaluation.synthetic.html_report import card_page

        write_html(card_page(self, provenance), path)

    def to_json(self, path: str | Path, provenance: Provenance | None = None) -> None:
        """Write the card as JSON."""
        from nearward.evaluation.html_page import write_json
        from nearward.evaluation.synthetic.json_report import card_json

        write_json(card_json(self) | {"provenance": (provenance or Provenance.now()).to_dict()}, path)


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
    """Evaluate a synthetic table against the rows that its generator was fitted on and real rows that it never saw.

    Parameters
    ----------
    train, holdout, synthetic : pl.DataFrame or pl.LazyFrame
        The same columns. Train and holdout must be a random split, by patient where patients repeat; drop columns that identify rows.
    outcome : str
        A column with two values.
    positive : value, optional
        The event; by default the greater of the two values. With it, the column may have more than two values.
    group : str, optional
        Column of train and holdout that identifies the patients.
    rules : path or Rules, optional
        The user's rules, in addition to those mined on train.
    gates : Gates, optional
        Thresholds of the components.
    seed : int, from 0
    steered : pl.DataFrame or pl.LazyFrame, optional
        Further real rows that the generator was tuned on and not fitted to (for early stopping, say). Their patients are members like
        those of train. They are attacked separately, and checked for copies.

    Returns
    -------
    FaithCard

    Raises
    ------
    InputError, MissingColumns, DifferentTables, SharedPatients, TooFewEvents, RuleError
        Tables, an outcome or rules that cannot be evaluated; see ``nearward.evaluation.tables.inputs.read_tables``.

    Examples
    --------
    >>> card = faith_card(train=train, holdout=holdout, synthetic=synthetic, outcome="died")  # doctest: +SKIP
    >>> card.passed, card.components["I"].estimate  # doctest: +SKIP
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"seed must be a whole number from 0, got seed={seed!r}")
    gates = gates or Gates()
    user_rules = rules if isinstance(rules, Rules) or rules is None else read_rules(rules)
    tables = read_tables(train, holdout, synthetic, outcome, positive, group)
    all_members, steering = tables, None
    if steered is not None:
        all_members, steering = _with_steering(train, holdout, synthetic, steered, outcome, positive, group)
    adhered = adherence(tables, user_rules, seed)  # first: a rule that cannot be read must fail before the attacks run
    _ = tables.embedding  # fitted once, before the parallel tasks would each fit it
    tasks: dict[str, Callable[[], Any]] = {
        "utility": partial(utility, tables, seed),
        "membership": partial(membership, tables, seed),
        "attribute inference": partial(attribute_inference, tables, seed),
        "singling out": partial(singling_out, tables, seed),
        "fidelity": partial(fidelity, tables, seed),
        "heterogeneity": partial(heterogeneity, tables, seed),
        "linkability": partial(linkability, tables, seed),
        "copies": partial(copies, all_members, seed),
    }
    if steering is not None:
        tasks["steered"] = partial(membership, steering, seed, control=False)
    with single_threaded("faiss", "sklearn.ensemble"):
        results = dict(zip(tasks, parallel_map(lambda task: task(), list(tasks.values())), strict=True))
    resistance = _worst_inference(results["membership"], results.get("steered"), steered is not None, gates)
    return FaithCard(
        components={
            "F": _compare("F", "Fidelity", results["fidelity"].score, gates.fidelity, gates),
            "A": _compare("A", "Adherence", adhered.score, gates.adherence, gates, "no rule holds in train: give rules="),
            "I": _check_holdout(resistance, overlap(all_members)),
            "T": _compare(
                "T", "Task utility", results["utility"].score, gates.utility, gates, "real rows teach nothing certain about the outcome"
            ),
            "H": _compare(
                "H",
                "Heterogeneity",
                results["heterogeneity"].score,
                gates.heterogeneity,
                gates,
                "no class or stratum is large enough",
            ),
        },
        fidelity=results["fidelity"],
        adherence=adhered,
        membership=results["membership"],
        guesses=(*results["singling out"], *results["linkability"], *results["attribute inference"]),
        utility=results["utility"],
        heterogeneity=results["heterogeneity"],
        copies=results["copies"],
        notes=tables.notes,
        outcome=tables.outcome,
        rows={"train": tables.train.height, "holdout": tables.holdout.height, "synthetic": tables.synthetic.height},
        gates=gates,
        seed=seed,
        steered=results.get("steered"),
        event=f"{tables.event:g}" if isinstance(tables.event, float) else tables.event,
    )


def _with_steering(
    train: Frame, holdout: Frame, synthetic: Frame, steered: Frame, outcome: str, positive: Any, group: str | None
) -> tuple[Tables, Tables | None]:
    """Return the tables with all members in train, and with the steering rows alone in train; None where these are too few."""
    fitted, more = to_frame(train), to_frame(steered)
    require_columns(fitted.columns, more.columns)
    both = read_tables(pl.concat([fitted, more.select(fitted.columns)]), holdout, synthetic, outcome, positive, group)
    patient_ids = both.train_patient_ids[fitted.height :]
    enough = more.height >= _MIN_STEERED and len(set(patient_ids.tolist())) >= _MIN_STEERED // 2
    return both, replace(both, train=both.train[fitted.height :], train_patient_ids=patient_ids) if enough else None


def _compare(letter: str, name: str, estimate: Estimate | None, threshold: float, gates: Gates, undefined: str = "") -> Component:
    """Compare an estimate with its threshold; ``undefined`` says why there is none."""
    if estimate is None:
        return Component(letter, name, None, threshold, "not measurable", undefined)
    if estimate.high < threshold:
        return Component(letter, name, estimate, threshold, "failed", f"upper bound < {threshold:g}")
    if estimate.high - estimate.low > gates.widest + 1e-9:
        return Component(letter, name, estimate, threshold, "not measurable", f"n too small: interval wider than {gates.widest:g}")
    if estimate.low < threshold:
        return Component(letter, name, estimate, threshold, "failed", f"lower bound < {threshold:g}")
    return Component(letter, name, estimate, threshold, "passed", f"lower bound ≥ {threshold:g}")


def _inference(attacks: Membership, gates: Gates) -> Component:
    """Fail a significant advantage whatever its size, else compare the score with its threshold."""
    advantage = 1 - attacks.score.high
    if advantage > gates.proven:
        why = f"advantage ≥ {advantage:.3f} proven: members can be told"
        return Component("I", "Inference resistance", attacks.score, gates.inference, "failed", why)
    return _compare("I", "Inference resistance", attacks.score, gates.inference, gates)


def _worst_inference(fitted: Membership, steered: Membership | None, has_steered: bool, gates: Gates) -> Component:
    """Return the worse of two attacks: on members that the generator was fitted on, and on those that it was tuned on."""
    component = _inference(fitted, gates)
    if steered is None:
        why = f"fewer than {_MIN_STEERED} rows that steered the generator"
        unknown = has_steered and component.status == "passed"
        return replace(component, status="not measurable", why=why) if unknown else component
    other = _inference(steered, gates)
    rank = {"passed": 0, "not measurable": 1, "failed": 2}
    if rank[other.status] <= rank[component.status]:
        return component
    return replace(other, why=f"patients that steered the generator: {other.why}")


def _check_holdout(component: Component, shared: Overlap) -> Component:
    """Withdraw a pass where the holdout repeats rows of train: no attack separates members from themselves. A failure stays one."""
    if component.status == "failed" or not shared.significant:
        return component
    repeated = describe_count(shared.count)
    why = f"the holdout repeats rows of train: {repeated} different rows are in both, {shared.expected:.0f} would be by chance"
    return replace(component, estimate=None, status="not measurable", why=why)
