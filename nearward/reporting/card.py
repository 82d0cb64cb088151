"""The model card: every item with what is known of it, or None where only people know; written as Markdown, HTML and JSON.

The card names columns and counts, and shows no value of a patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from nearward.evaluation.html_page import render, write_html, write_json
from nearward.evaluation.provenance import Provenance
from nearward.evaluation.risk.tripod_json import ITEMS
from nearward.evaluation.stats.confidence import Estimate, estimate_series
from nearward.reporting.facts import ModelFacts, ReportFacts, SampleSizeCheck, read_facts, read_report
from nearward.reporting.items import CHAI, PROBAST
from nearward.reporting.known import known_chai, known_probast, known_tripod
from nearward.tabular.data.atomic_files import replacing
from nearward.tabular.errors import InputError

BLANK = "To be filled in by the authors."
_METRICS = ("auprc", "auroc", "observed_expected", "calibration_slope", "brier", "net_benefit")


@dataclass(frozen=True)
class ModelCard:
    """The card of a model.

    Parameters
    ----------
    facts : ModelFacts
    report : ReportFacts or None
    provenance : Provenance
    chai : dict of section -> item -> text, or None where only people know
    tripod : dict of item -> text or None
    probast : dict of question's number -> evidence or None
    development, validation : SampleSizeCheck or None
        Riley's criteria beside the training rows, and beside the evaluated rows.
    """

    facts: ModelFacts
    report: ReportFacts | None
    provenance: Provenance
    chai: dict[str, dict[str, str | None]]
    tripod: dict[str, str | None]
    probast: dict[str, str | None]
    development: SampleSizeCheck | None
    validation: SampleSizeCheck | None

    @property
    def title(self) -> str:
        """Title of the card."""
        return f"Model card: risk of “{self.facts.outcome}”" if self.facts.outcome else "Model card of a risk model"

    def columns(self) -> pl.DataFrame:
        """Features of the model: column, role, kind, unit, block; no values."""
        columns = [column for column in self.facts.schema.columns if column.role in ("feature", "expert")]
        names = ("name", "role", "kind", "unit", "block")
        table = pl.DataFrame(
            [[getattr(column, name) for name in names] for column in columns], schema=dict.fromkeys(names, pl.String), orient="row"
        )
        return table.select(name for name in names if table.get_column(name).null_count() < table.height)

    def sample_sizes(self) -> pl.DataFrame:
        """Riley's criteria: what for, criterion, rows needed, rows there, and whether it is met."""
        checks = {"development": self.development, "validation": self.validation}
        rows = [
            (name, criterion, needed, check.rows, "met" if check.rows >= needed else "not met")
            for name, check in checks.items()
            if check is not None
            for criterion, needed in check.needed.criteria.items()
        ]
        schema = {"for": pl.String, "criterion": pl.String, "rows needed": pl.Int64, "rows there": pl.Int64, "status": pl.String}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def metrics(self) -> pl.DataFrame:
        """Metrics of the report, over all rows and within subgroups, with their 95 % intervals."""
        from nearward.evaluation.risk.metrics import METRIC_BY_KEY

        if self.report is None:
            return pl.DataFrame()
        subgroups = {f"{one['column']}: {one['level']}": one["metrics"] or {} for one in self.report.subgroups}
        parts = {"all rows": self.report.metrics, **subgroups}
        columns = [pl.Series("rows of", list(parts))]
        for key in _METRICS:
            columns.append(estimate_series(METRIC_BY_KEY[key].title, [_estimate(of_part.get(key, {})) for of_part in parts.values()]))
        return pl.DataFrame(columns)

    def to_dict(self) -> dict[str, Any]:
        """Return the card for JSON; what only people know is null."""
        checks = {"development": self.development, "validation": self.validation}
        return {
            "nearward_model_card": 1,
            "title": self.title,
            "provenance": self.provenance.to_dict(),
            "columns": self.columns().to_dicts(),
            "sample_size": {name: None if check is None else check.to_dict() for name, check in checks.items()},
            "performance": None if self.report is None else self.report.metrics,
            "report_provenance": None if self.report is None else self.report.provenance,
            "chai_applied_model_card": self.chai,
            "tripod_ai": {item: {"title": title, "content": self.tripod[item]} for item, title in ITEMS.items()},
            "probast_ai_self_check": {
                domain: {number: {"question": question, "evidence": self.probast[number], "answer": None} for number, question in questions}
                for domain, questions in PROBAST.items()
            },
        }

    def write(self, folder: str | Path) -> None:
        """Write ``card.md``, ``card.html`` and ``card.json`` into a folder, which is made where it does not exist.

        Files there of these names are replaced. Copy the Markdown before you fill it in.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file: name a folder for the card")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        context = {"card": self, "chai_items": CHAI, "tripod_items": ITEMS, "probast_items": PROBAST, "blank": BLANK}
        with replacing(folder / "card.md") as temporary:
            temporary.write_text(_markdown(self), encoding="utf-8")
        write_html(render("model_card.html.jinja", self.provenance, **context), folder / "card.html")
        write_json(self.to_dict(), folder / "card.json")


def model_card(folder: str | Path, report: str | Path | None = None) -> ModelCard:
    """Return the card of a saved model.

    Parameters
    ----------
    folder : path
        Of ``RiskClassifier.save`` or ``nearward fit``.
    report : path, optional
        JSON of ``RiskReport.to_json`` or ``nearward evaluate risk --json``: the model's performance on other rows.

    Raises
    ------
    ArtifactError
        Not a risk model, or corrupt.
    InputError
        Not a report's JSON.
    """
    facts, of_report = read_facts(folder), None if report is None else read_report(report)
    development, validation = facts.development_check(), None if of_report is None else of_report.validation_check()
    chai, known = known_chai(facts, of_report), known_tripod(facts, of_report, development)
    return ModelCard(
        facts=facts,
        report=of_report,
        provenance=Provenance.now(() if report is None else [Path(report)], facts.sha256),
        chai={section: {title: chai.get(title) for title in titles} for section, titles in CHAI.items()},
        tripod={item: known.get(item) for item in ITEMS},
        probast={
            number: known_probast(facts, of_report, development).get(number) for questions in PROBAST.values() for number, _ in questions
        },
        development=development,
        validation=validation,
    )


def _estimate(metric: dict[str, Any]) -> Estimate | None:
    if any(metric.get(name) is None for name in ("value", "low", "high")):
        return None
    return Estimate(metric["value"], metric["low"], metric["high"], metric.get("n") or 0)


def _markdown(card: ModelCard) -> str:
    lines = [f"# {_plain(card.title)}", "", f"Created {card.provenance.created} by nearward {card.provenance.versions['nearward']}.", ""]
    lines += [f"Model sha256 `{card.provenance.model_sha256}`.", "", "## Applied Model Card (CHAI)"]
    for section, items in card.chai.items():
        lines += ["", f"### {section}", ""]
        lines += [f"- **{title}**: {_plain(text) if text else f'*{BLANK}*'}" for title, text in items.items()]
    lines += ["", "## Columns", "", *_table(card.columns())]
    if card.sample_sizes().height:
        lines += ["", "## Sample size (Riley's criteria)", "", *_table(card.sample_sizes()), ""]
        lines += [
            f"Assumed for {name}: {check.assumed}."
            for name, check in (("development", card.development), ("validation", card.validation))
            if check
        ]
    if card.report is not None:
        lines += ["", "## Performance", "", *_table(card.metrics())]
    lines += ["", "## TRIPOD+AI", "", "| item | title | content |", "|---|---|---|"]
    lines += [f"| {item} | {title} | {_cell(card.tripod[item]) or f'*{BLANK}*'} |" for item, title in ITEMS.items()]
    lines += ["", "## Self-check by the domains of PROBAST+AI"]
    for domain, questions in PROBAST.items():
        lines += ["", f"### {domain}", "", "| | question | evidence | answer |", "|---|---|---|---|"]
        lines += [f"| {number} | {question} | {_cell(card.probast[number]) or '–'} | *{BLANK}* |" for number, question in questions]
    return "\n".join(lines) + "\n"


def _table(frame: pl.DataFrame) -> list[str]:
    header = [f"| {' | '.join(map(_cell, frame.columns))} |", f"|{'---|' * frame.width}"]
    return [*header, *(f"| {' | '.join('–' if value is None else _cell(str(value)) for value in row)} |" for row in frame.iter_rows())]


def _cell(text: str | None) -> str:
    return "" if text is None else _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Return text in one line, with marks of HTML and Markdown that names of columns may contain made harmless."""
    text = " ".join(text.split())
    for mark in ("\\", "<", "*", "`", "[", "_"):
        text = text.replace(mark, f"\\{mark}")
    return text
