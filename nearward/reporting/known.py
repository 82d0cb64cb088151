"""The texts of the items that are known from a model's manifest and a report: no opinion, no guess, no patient's value."""

from __future__ import annotations

from typing import Any

from nearward.evaluation.risk.metrics import METRIC_BY_KEY
from nearward.reporting.facts import ModelFacts, ReportFacts, SampleSizeCheck
from nearward.tabular.data.validation import describe_event

_METHOD = (
    "Base learners (ridge, kernels, logistic regression, boosted trees), the vote of similar patients, and where it ranks clearly better "
    "an in-context model, combined by stacking; recalibrated; the band is Venn-Abers."
)
_LIMITS = (
    "No prospective validation unless stated here. A risk is an estimate for patients like those in the training data; it is no cause and "
    "no recommendation. The band is narrower than a confidence interval of the risk, and does not say what will happen."
)
_RECORDS = {True: "the training patients' rows", False: "embeddings and outcomes of the training patients, but no readable rows"}
_MISSING = "Missing numbers are encoded with a flag, missing categories as a category; no row was dropped for them."


def known_chai(facts: ModelFacts, report: ReportFacts | None) -> dict[str, str]:
    """Return the known items of CHAI's card by title."""
    known = {
        "Version": f"sha256 {facts.sha256}; nearward {facts.version}",
        "Summary": f"Estimates {_outcome(facts)} from {len(facts.schema.features)} columns; fitted on {_training(facts)}.",
        "How to use it": f"nearward score, or nearward.load(folder).predict_frame({'events, labels' if facts.reads_events else 'table'}).",
        "Known risks and limitations": f"{_LIMITS} Rows with novelty above 0.99 lie outside the training population.",
        "Outcome and output": f"{_outcome(facts)}: a probability with a band, the number of similar patients, novelty.{_prevalence(facts)}",
        "Type of model": f"{_METHOD} Similar patients by {facts.retrieval}. In-context model {facts.in_context}.",
        "Foundation models": f"In-context model {facts.in_context}.",
        "Types of input and output data": f"{_input(facts)}: {_kinds(facts)}. Output: a table.",
        "Development data": f"{_training(facts)}.",
        "Security and compliance": f"The model folder contains {_RECORDS[facts.contains_records]}: guard it as the cohort. It executes "
        "nothing, and every file is hashed. Scoring opens no connection.",
        "Transparency, intelligibility and accountability": "Each risk is explained by the similar patients that it rests on (nearward "
        "similar) and by the columns that raised or lowered it (nearward explain, nearward sheet).",
    }
    if facts.schema.named("protected"):
        known["Bias mitigation"] = f"Never used as features: {', '.join(facts.schema.named('protected'))}."
    if report is not None:
        counts = report.counts
        known["Evaluation data"] = f"{counts['rows']} rows of {counts['patients']} patients, {counts['events']} events."
        known["Usefulness and efficacy"] = _metrics(report, "auprc", "auroc", "net_benefit")
        known["Safety and reliability"] = _metrics(report, "observed_expected", "calibration_slope", "brier")
        columns = list(dict.fromkeys(one["column"] for one in report.subgroups))
        if columns:
            known["Fairness and equity"] = f"Performance within the groups of {', '.join(columns)}: see the table below."
    return known


def known_tripod(facts: ModelFacts, report: ReportFacts | None, development: SampleSizeCheck | None) -> dict[str, str]:
    """Return the known items of TRIPOD+AI by number."""
    known = {
        "8a": f"{_outcome(facts)[0].upper()}{_outcome(facts)[1:]}. Horizon and assessment: to be added.",
        "9a": f"Columns: {', '.join(facts.schema.features)}.",
        "11": _MISSING,
        "12a": f"{facts.folds}-fold cross-fitting, split by patient: stack, calibration and the figures out of fold rest on models that "
        "have not seen the patient.",
        "12b": "Numbers are standardised for linear models and ranked for trees; categories are encoded by event rates, cross-fitted.",
        "12c": f"{_METHOD} In use, by weight: {', '.join(facts.learners)}.",
        "12g": "By the saved model, whose identity is its sha256.",
        "13": f"{_resampling(facts).capitalize()}; risks are calibrated on scores out of fold.",
        "15": f"A probability with its band.{_prevalence(facts)} Threshold: to be added.",
        "20a": f"Development: {_training(facts)}.",
        "21": f"Development: {_training(facts)}.",
        "22": "The saved model, with its hash; base learners and weights: nearward inspect.",
        "27a": "Missing values and unseen categories are scored and raise novelty; values far outside the training range are reported.",
    }
    if development is not None:
        needed, verdict = development.needed, "met" if development.enough else "not met"
        known["10"] = (
            f"Riley's criteria for development: {needed.rows} rows ({needed.events} events) needed, {development.rows} there: {verdict}. "
            f"Assumed: {development.assumed}."
        )
    if report is not None:
        counts, content = report.counts, report.items
        evaluated = f"Evaluation: {counts['rows']} rows of {counts['patients']} patients, {counts['events']} events."
        known["21"] += f" {evaluated}"
        known["20a"] += f" {evaluated}"
        known["12e"] = f"Discrimination, calibration, net benefit, with {content['12e']['content']['intervals']}."
        known["15"] += f" Evaluated at the threshold {content['15']['content']['threshold']:.3g}."
        known["23a"] = _metrics(report, "auprc", "auroc", "observed_expected", "calibration_slope")
        if notes := content["26"]["content"]["notes"]:
            known["26"] = " ".join(notes)
        if content["23b"]["content"]:
            known["23b"] = "Strata by number of events: see the report."
    return known


def known_probast(facts: ModelFacts, report: ReportFacts | None, development: SampleSizeCheck | None) -> dict[str, str]:
    """Return the evidence for questions of the self-check by number."""
    known = {
        "2.3": "Features that equal the outcome, or are missing exactly with it, are reported at the fit; what is known when, people know.",
        "4.1": "No check: the model has several classes, or does not rank."
        if development is None
        else f"{development.rows} rows, {development.needed.rows} needed by Riley's criteria for development.",
        "4.2": _MISSING,
        "4.3": "All splits are by patient."
        if facts.schema.named("group") or facts.patients < facts.rows
        else "Every row counted as a patient of its own: right only if no patient has several rows.",
        "4.4": f"Stacking and calibration rest on scores out of fold; {_resampling(facts)}.",
    }
    if report is not None:
        known["4.5"] = _metrics(report, "auroc", "calibration_slope", "net_benefit")
        known["4.6"] = f"{len(report.subgroups)} groups in the report." if report.subgroups else "No groups in the report."
        known["4.7"] = f"Evaluated on {report.counts['rows']} rows; whether these are other data, people know."
    return known


def _outcome(facts: ModelFacts) -> str:
    name = f"“{facts.outcome}”" if facts.outcome else "the outcome"
    if len(facts.classes) > 2:
        return f"the probability of each of {len(facts.classes)} classes of {name}"
    return f"the risk that {name} is {describe_event(facts.event)}"


def _training(facts: ModelFacts) -> str:
    share = f"{100 * facts.events / facts.rows:.1f} %"
    what = "events" if len(facts.classes) == 2 else "outside the commonest class"
    figures = f"out of fold AUPRC {facts.auprc:.3f}, AUROC {facts.auroc:.3f}"
    taught = "" if facts.taught is None else f"; learned from a weighted sample of {facts.taught} rows, all are indexed"
    return f"{facts.rows} rows of {facts.patients} patients, {facts.events} {what} ({share}){taught}; {figures}"


def _resampling(facts: ModelFacts) -> str:
    if facts.taught is None:
        return "no resampling of classes"
    return f"a sample of {facts.taught} of {facts.rows} rows, rare classes first, each weighted by the rows that it stands for"


def _prevalence(facts: ModelFacts) -> str:
    return "" if facts.prevalence is None else f" Corrected for a prevalence of {facts.prevalence:g}."


def _input(facts: ModelFacts) -> str:
    return "Time-stamped events (MEDS) before each moment of prediction, as features" if facts.reads_events else "A table"


def _kinds(facts: ModelFacts) -> str:
    kinds = [column.kind for column in facts.schema.columns if column.role in ("feature", "expert")]
    names = {"number": ("number", "numbers"), "category": ("category", "categories"), "list": ("list of codes", "lists of codes")}
    return ", ".join(f"{kinds.count(kind)} {name[kinds.count(kind) > 1]}" for kind, name in names.items() if kind in kinds)


def _metrics(report: ReportFacts, *keys: str) -> str:
    return "; ".join(f"{METRIC_BY_KEY[key].title} {_value(report.metrics[key])}" for key in keys)


def _value(metric: dict[str, Any]) -> str:
    if metric.get("value") is None:
        return f"none: {metric.get('why', '')}"
    if metric.get("low") is None:
        return f"{metric['value']:.3f} (no interval)"
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"
