"""Risk reports and comparisons as pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from nearward.evaluation.html_page import Page, figure, notice, paragraph, table, tell
from nearward.evaluation.risk import figures as pictures
from nearward.evaluation.risk.curves import Curves
from nearward.evaluation.risk.disclosure_control import WHY_WITHHELD, WITHHELD
from nearward.evaluation.risk.metrics import BY_KEY
from nearward.evaluation.risk.resampled_metrics import Result
from nearward.evaluation.risk.subgroups import Part
from nearward.evaluation.stats.cluster_bootstrap import Undefined
from nearward.evaluation.stats.confidence import Estimate, estimates

if TYPE_CHECKING:
    from nearward.evaluation.risk.comparison import Comparison
    from nearward.evaluation.risk.report import RiskReport
    from nearward.evaluation.risk.site_leakage import SourceLeak

_IN_PARTS = (
    "prevalence",
    "auprc",
    "auroc",
    "observed_expected",
    "calibration_slope",
    "brier",
    "recall_at_budget",
    "ppv_at_budget",
    "net_benefit",
)
_FORESTS = ("auroc", "auprc", "observed_expected")
_BANDS = "The band is the pointwise 95 % interval."


def risk_page(report: RiskReport, similar: pl.DataFrame | None = None, about_similar: str = "") -> Page:
    """Lay out a report; ``similar`` is a panel of similar patients, shown as it is."""
    facts = report.facts
    page = Page(f"How good is the risk “{report.risk}” of “{facts['outcome']}”?", _lead(facts))
    page.section("In short", _headline(report), *(notice(note) for note in report.notes))
    page.section("All numbers", _metric_table({report.risk: report.metrics}), *_reasons(report.metrics), _chance(report))
    page.section(*_curves({report.risk: report.curves}, facts))
    if report.subgroups:
        page.section("Subgroups", *_parts(report.subgroups, report.metrics, "Subgroups"))
    if report.strata:
        about = paragraph(
            "Sites, diagnoses or other levels, put together by how many events each has here: does the risk hold where events are few?"
        )
        page.section("By number of events", about, *_parts(report.strata, report.metrics, "Event-count strata"))
    if report.source is not None:
        page.section("Source leak", *_source(report.source))
    if similar is not None:
        page.section(
            "Similar patients",
            notice("This section shows patients’ data: guard the page as you guard the cohort."),
            table(similar, about_similar),
        )
    page.section("How this was made", paragraph(_method(facts)))
    return page


def _source(found: SourceLeak) -> tuple[str, ...]:
    hidden = found.rates.get_column("events").null_count() > 0
    about = f"Event rate by {found.site!r}, with 95 % intervals." + (f" {WHY_WITHHELD}" if hidden else "")
    return (
        paragraph("Can the source of a row be told from its columns, and does it track the outcome? Then a model can learn the source."),
        notice(f"{found.verdict()[0].upper()}{found.verdict()[1:]}", "warning" if found.leaks else "good"),
        table(found.shown(), about),
    )


def comparison_page(found: Comparison) -> Page:
    """Lay out a comparison."""
    facts, names = found.facts, list(found.metrics)
    page = Page(f"Which risk of “{facts['outcome']}” is better: {', '.join(f'“{name}”' for name in names)}?", _lead(facts))
    gaps = [
        notice(f"AUPRC of “{found.first}” less “{name}”: {tell(gap)}. {_verdict(gap)}", _kind(gap))
        for name, results in found.differences.items()
        if isinstance(gap := results["auprc"], Estimate)
    ]
    page.section("In short", *gaps)
    columns: dict[str, Any] = {"metric": [BY_KEY[key].title for key in next(iter(found.differences.values()))]}
    series = [pl.Series("metric", columns["metric"])]
    series += [estimates(f"less {name}", [_shown(gap) for gap in results.values()]) for name, results in found.differences.items()]
    caption = f"“{found.first}” less each other risk, on the same resampled patients. An interval without 0 is a difference."
    page.section("Differences", table(pl.DataFrame(series), caption), *_reasons(*found.differences.values()))
    page.section("Each alone", _metric_table(found.metrics), *_reasons(*found.metrics.values()))
    page.section(*_curves(found.curves, facts))
    page.section("How this was made", paragraph(_method(facts)))
    return page


def part_summary(parts: Sequence[Part], keys: Sequence[str] = _IN_PARTS) -> pl.DataFrame:
    """One row a part, as it is shown: counts or ``<10*``, and the metrics asked for."""
    counts = {
        "part": [f"{part.column}: {part.level}" for part in parts],
        "rows": [WITHHELD if part.rows is None else str(part.rows) for part in parts],
        "events": [WITHHELD if part.events is None else str(part.events) for part in parts],
    }
    columns = [estimates(BY_KEY[key].title, [_shown(part.results.get(key)) for part in parts]) for key in keys]
    return pl.DataFrame([*(pl.Series(name, values, dtype=pl.String) for name, values in counts.items()), *columns])


def _lead(facts: Mapping[str, Any]) -> str:
    rate = facts["events"] / facts["rows"]
    return f"{facts['rows']} rows of {facts['patients']} patients, {facts['events']} events ({100 * rate:.3g} %)."


def _headline(report: RiskReport) -> str:
    facts, found = report.facts, report.metrics
    words = []
    auprc, auroc = found["auprc"], found["auroc"]
    if isinstance(auprc, Estimate) and isinstance(auroc, Estimate):
        words.append(f"AUPRC {tell(auprc)} where knowing nothing has {facts['events'] / facts['rows']:.3f}; AUROC {tell(auroc)}.")
    recall, ppv = found["recall_at_budget"], found["ppv_at_budget"]
    if isinstance(recall, Estimate) and isinstance(ppv, Estimate):
        words.append(
            f"With {100 * facts['alert_rate']:.3g} alerts per 100 patients, {100 * recall.value:.0f} % of the events are among the alerts "
            f"({100 * recall.low:.0f} to {100 * recall.high:.0f} %), and {100 * ppv.value:.0f} % of the alerts are right "
            f"({100 * ppv.low:.0f} to {100 * ppv.high:.0f} %)."
        )
    ratio = found["observed_expected"]
    if isinstance(ratio, Estimate):
        words.append(f"For each event that the risks expect, {ratio.value:.2f} happened ({ratio.low:.2f} to {ratio.high:.2f}).")
    return paragraph(" ".join(words))


def _metric_table(results: Mapping[str, Mapping[str, Result]]) -> str:
    keys = list(next(iter(results.values())))
    columns = [pl.Series("metric", [BY_KEY[key].title for key in keys])]
    columns += [
        estimates(name if len(results) > 1 else "value (95 %)", [_shown(found[key]) for key in keys]) for name, found in results.items()
    ]
    columns.append(pl.Series("what it says", [BY_KEY[key].says for key in keys]))
    return table(pl.DataFrame(columns), "Every number with its 95 % interval.")


def _reasons(*results: Mapping[str, Result]) -> list[str]:
    """Say why a dash is a dash."""
    told = {f"{BY_KEY[key].title}: {found.why}." for one in results for key, found in one.items() if isinstance(found, Undefined)}
    return [notice("No value where a dash stands. " + " ".join(sorted(told)))] if told else []


def _chance(report: RiskReport) -> str:
    chance = report.ece_by_chance
    return paragraph(
        f"Calibration error: faultless risks would show {chance.value:.4f} on so few rows ({chance.low:.4f} to {chance.high:.4f}), "
        "by chance alone."
    )


def _curves(curves: Mapping[str, Curves], facts: Mapping[str, Any]) -> tuple[str, ...]:
    reasons = [
        notice(f"Calibration of “{name}”: {one.calibration.why}.") for name, one in curves.items() if isinstance(one.calibration, Undefined)
    ]
    return (
        "Pictures",
        figure(pictures.precision_recall(curves, facts["events"] / facts["rows"]), f"Precision and recall at every threshold. {_BANDS}"),
        figure(pictures.roc(curves), f"Receiver operating characteristic (ROC). {_BANDS}"),
        figure(
            pictures.calibration(curves),
            "Calibration: event rate among rows with a risk, smoothed; below, how many rows have it (bars under 10 rows are left out). "
            + _BANDS,
        ),
        figure(
            pictures.decision(curves, facts["threshold"]),
            f"Decision curve: true alerts per row less false ones at the threshold's odds. The upright line is the threshold "
            f"{facts['threshold']:.3g} of the numbers above. {_BANDS}",
        ),
        *reasons,
    )


def _parts(parts: Sequence[Part], whole: Mapping[str, Result], what: str) -> list[str]:
    hidden = any(part.events is None for part in parts)
    shown = [table(part_summary(parts), f"{what}: the same numbers within each." + (f" {WHY_WITHHELD}" if hidden else ""))]
    for key in _FORESTS:
        if any(isinstance(part.results.get(key), Estimate) for part in parts):
            title = BY_KEY[key].title
            drawn = pictures.forest(parts, key, title, _shown(whole[key]))
            shown.append(figure(drawn, f"{what}: {title} with its 95 % interval; dashed and grey, the whole with its own."))
    reasons = {f"{part.column}: {part.level}, {line}" for part in parts for line in _lacking(part)}
    return [*shown, *([notice("No value where a dash stands beside numbers. " + " ".join(sorted(reasons)))] if reasons else [])]


def _lacking(part: Part) -> list[str]:
    return [
        f"{BY_KEY[key].title}: {found.why}." for key, found in part.results.items() if isinstance(found, Undefined) and key in _IN_PARTS
    ]


def _method(facts: Mapping[str, Any]) -> str:
    whose = f"patients (column “{facts['group']}”)" if facts["group"] else "rows, each a patient of its own"
    return (
        f"Intervals come from {facts['resamples']} resamples of {whose}, seed {facts['seed']}: shares on the arcsine of their root, AUROC "
        "on the log-odds, AUPRC at each end on the farther of the two, positive numbers on the logarithm, others as they are; only the "
        "spread of the resamples is used. Subgroup intervals are not adjusted for their number: among twenty subgroups one lies outside "
        "by chance. A good score here says nothing about other hospitals, other years, or what acting on the risk does."
    )


def _verdict(gap: Estimate) -> str:
    return "Better." if gap.low > 0 else "Worse." if gap.high < 0 else "The interval holds 0: these rows cannot tell which is better."


def _kind(gap: Estimate) -> Any:
    return "good" if gap.low > 0 else "warning"


def _shown(result: Result | None) -> Estimate | None:
    return result if isinstance(result, Estimate) else None
