"""A risk report as JSON, keyed by the items of TRIPOD+AI; items that only the authors can write are null, under their title.

References
----------
Collins et al.: TRIPOD+AI statement: updated guidance for reporting clinical prediction models that use regression or machine learning
methods (2024). The titles here are shortened in our words.
"""

from __future__ import annotations

from typing import Any

from nearward.evaluation.provenance import Provenance
from nearward.evaluation.risk.disclosure_control import SUPPRESSION_NOTE
from nearward.evaluation.risk.metrics import METRICS
from nearward.evaluation.risk.results import RiskResults, results_dict
from nearward.evaluation.stats.confidence import LEVEL

ITEMS = {
    "1": "Title: development or evaluation, population, outcome",
    "2": "Abstract",
    "3a": "Background: healthcare context and rationale",
    "3b": "Background: target population and purpose in the care pathway",
    "3c": "Background: known health inequalities",
    "4": "Objectives: development, validation or both",
    "5a": "Data: sources, and how well they represent the target population",
    "5b": "Data: dates of accrual and of follow-up",
    "6a": "Participants: setting and number of centres",
    "6b": "Participants: eligibility",
    "6c": "Participants: treatments received",
    "7": "Data preparation: cleaning, harmonising, quality checks",
    "8a": "Outcome: definition, horizon, how and when assessed",
    "8b": "Outcome: assessors, where the assessment is subjective",
    "8c": "Outcome: blinding of the assessment",
    "9a": "Predictors: choice of the initial ones",
    "9b": "Predictors: definition, how and when measured",
    "9c": "Predictors: assessors, where the assessment is subjective",
    "10": "Sample size: how it was arrived at",
    "11": "Missing data: how they were handled",
    "12a": "Analysis: how the data were used and partitioned",
    "12b": "Analysis: handling of predictors",
    "12c": "Analysis: type of model, building steps, internal validation",
    "12d": "Analysis: differences between clusters",
    "12e": "Analysis: measures and plots of performance",
    "12f": "Analysis: updating of the model",
    "12g": "Analysis: how predictions were calculated",
    "13": "Class imbalance: methods, and recalibration after them",
    "14": "Fairness: approaches",
    "15": "Output of the model, and thresholds",
    "16": "Differences between development and evaluation data",
    "17": "Ethical approval",
    "18a": "Open science: funding",
    "18b": "Open science: conflicts of interest",
    "18c": "Open science: protocol",
    "18d": "Open science: registration",
    "18e": "Open science: data sharing",
    "18f": "Open science: code sharing",
    "19": "Patient and public involvement",
    "20a": "Results: flow of participants, with and without the outcome",
    "20b": "Results: characteristics of participants",
    "20c": "Results: predictors compared with the development data",
    "21": "Results: participants and events in each analysis",
    "22": "Results: the full model",
    "23a": "Results: performance with intervals, and in key subgroups",
    "23b": "Results: differences in performance between clusters",
    "24": "Results: updating of the model",
    "25": "Discussion: interpretation, fairness included",
    "26": "Discussion: limitations",
    "27a": "Usability: inputs that are poor or missing",
    "27b": "Usability: how users deal with input and output",
    "27c": "Usability: next steps of research",
}


def tripod(report: RiskResults, provenance: Provenance | None = None) -> dict[str, Any]:
    """Return a report's contents by item, and its provenance: by default the time and the versions."""
    facts = report.facts
    counts = {"rows": facts.rows, "patients": facts.patients, "events": facts.events, "rows_without": facts.rows - facts.events}
    content: dict[str, Any] = {
        "8a": {"column": facts.outcome, "event": facts.event},
        "12e": {
            "measures": {metric.key: {"title": metric.title, "says": metric.meaning} for metric in METRICS},
            "intervals": f"{LEVEL:.0%}, from {facts.resamples} resamples of patients, seed {facts.seed}",
            "patients_named_by": facts.group,
        },
        "15": {"risk": report.risk, "alert_rate": facts.alert_rate, "threshold": facts.threshold},
        "20a": counts,
        "21": counts,
        "23a": {
            "metrics": results_dict(report.metrics),
            "ece_by_chance": results_dict({"ece": report.ece_by_chance})["ece"],
            "curves": report.curves.to_dict(),
            "thresholds": [one.to_dict() for one in report.thresholds],
            "subgroups": [subgroup.to_dict() for subgroup in report.subgroups],
            "periods": [period.to_dict() for period in report.periods],
            "withheld": SUPPRESSION_NOTE,
            **({} if report.source is None else {"source_leak": report.source.as_dict()}),
        },
        "23b": {
            **({"strata": [stratum.to_dict() for stratum in report.strata]} if report.strata else {}),
            **({"sites": report.sites.to_dict()} if report.sites is not None else {}),
        }
        or None,
        "26": {"notes": list(report.notes)},
    }
    return {
        "nearward_risk_report": 1,
        "about": "Keyed by TRIPOD+AI item. content null: nothing here can fill it, the authors must.",
        "provenance": (provenance or Provenance.now()).to_dict(),
        "items": {item: {"title": title, "content": content.get(item)} for item, title in ITEMS.items()},
    }
