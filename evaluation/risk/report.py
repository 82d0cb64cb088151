"""How good a risk is: every metric with its interval, its curves, its subgroups and event-count strata, in one report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from nearward.evaluation.risk.curves import Curves, draw_curves
from nearward.evaluation.risk.inputs import Sample, read_sample
from nearward.evaluation.risk.metrics import BY_KEY, Use
from nearward.evaluation.risk.resampled_metrics import Result, as_dict, error_by_chance, measure
from nearward.evaluation.risk.site_leakage import SourceLeak, source_leak
from nearward.evaluation.risk.subgroups import Part, event_strata, judge_parts
from nearward.evaluation.stats.cluster_bootstrap import Undefined
from nearward.evaluation.stats.confidence import Estimate
from nearward.evaluation.stats.logistic_recalibration import EDGE
from nearward.tabular.errors import InputError

RESAMPLES = 1000
_FEW_EVENTS = 50
_FEWEST_RESAMPLES = 100


@dataclass(frozen=True)
class RiskReport:
    """What ``evaluate_risk`` found.

    Parameters
    ----------
    facts : dict
        Rows, patients, events, and how the numbers were made.
    risk : str
        Name of the column judged.
    metrics : metric's key -> Estimate or why there is none
    ece_by_chance : Estimate
        Calibration error that faultless risks would show on these rows, and the range of 95 % of such errors.
    curves : Curves
    subgroups, strata : list of Part
    source : SourceLeak or None
        Whether the site can be told from the other columns, and tracks the outcome; where a site was named.
    notes : tuple of str
        What a reader must know before he believes the numbers.
    """

    facts: dict[str, Any]
    risk: str
    metrics: dict[str, Result]
    ece_by_chance: Estimate
    curves: Curves
    subgroups: tuple[Part, ...]
    strata: tuple[Part, ...]
    source: SourceLeak | None
    notes: tuple[str, ...]

    def __getitem__(self, key: str) -> Estimate | None:
        """Return a metric by its key, None where it has no value."""
        found = self.metrics[key]
        return found if isinstance(found, Estimate) else None

    def table(self) -> pl.DataFrame:
        """Metrics: key, metric, value, low, high, n, why."""
        return result_table(self.metrics)

    def subgroup_table(self) -> pl.DataFrame:
        """Metrics of subgroups: column, level, rows, events, key, metric, value, low, high, n, why; null where withheld."""
        return part_table(self.subgroups)

    def strata_table(self) -> pl.DataFrame:
        """Metrics of event-count strata, as ``subgroup_table``."""
        return part_table(self.strata)

    def to_html(self, path: str | Path, similar: pl.DataFrame | None = None, about_similar: str = "") -> None:
        """Write a self-contained page.

        Parameters
        ----------
        path : path
            Written whole or not at all, for its owner's eyes only (0600).
        similar : pl.DataFrame, optional
            Similar patients of one patient, to be shown as they are; the page then holds patients' data.
        about_similar : str
            Whose they are.
        """
        from nearward.evaluation.html_page import write
        from nearward.evaluation.risk.html_report import risk_page

        write(risk_page(self, similar, about_similar), path)

    def to_json(self, path: str | Path) -> None:
        """Write everything that the page shows, keyed by TRIPOD+AI item; items that only people can fill are null."""
        from nearward.evaluation.html_page import write_json
        from nearward.evaluation.risk.tripod_json import tripod

        write_json(tripod(self), path)


def evaluate_risk(
    frame: pl.DataFrame | pl.LazyFrame,
    outcome: str,
    risk: str,
    group: str | None = None,
    subgroups: Sequence[str] = (),
    *,
    strata: Sequence[str] = (),
    site: str | None = None,
    positive: Any = None,
    alert_rate: float = 0.05,
    threshold: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> RiskReport:
    """Judge a risk on rows that it was not fitted on.

    Parameters
    ----------
    frame : n rows
        One row a patient or, with ``group``, a visit.
    outcome : str
        Column with two values.
    risk : str
        Column of probabilities in [0, 1].
    group : str, optional
        Column that names the patients, where they repeat: they are resampled whole.
    subgroups : names of columns with at most 30 values
        The same metrics within each value; where fewer than 10 rows, events or rows without are, they are withheld.
    strata : names of columns
        Of sites or diagnoses for instance: the same metrics for those with 0 to 9, 10 to 29, … events.
    site : str, optional
        Column of the site or the source file: checked for a source leak (``evaluation/risk/site_leakage.py``) by all columns that are not named here
        as outcome, risk or patient.
    positive : value, optional
        Which outcome is the event; by default the greater of the two.
    alert_rate : float
        Share of rows that can be alerted: .05 is 5 alerts per 100 patients.
    threshold : float, optional
        Risk from which on one acts; by default the event rate of these rows, where alerting all is worth as much as alerting nobody.
    resamples : int, at least 100
    seed : int

    Returns
    -------
    RiskReport

    Raises
    ------
    MissingColumns, InputError
        Columns that are not there, or that cannot be judged; the message says why.
    TooFewEvents
        Fewer than 10 events.

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> draw = np.random.default_rng(0)
    >>> risk = draw.random(500) * 0.5
    >>> report = evaluate_risk(pl.DataFrame({"died": draw.random(500) < risk, "risk": risk}), "died", "risk", resamples=200)
    >>> print(report["auroc"])
    0.727 (0.676 to 0.773)
    """
    names = [name for name in (outcome, risk, group) if name is not None]
    for what, columns in (("subgroups", subgroups), ("strata", strata)):
        if isinstance(columns, str):
            raise InputError(f'{what} must be a list of columns, got {what}={columns!r}. Write ["{columns}"]')
        if set(columns) & {outcome, risk}:
            raise InputError(f"{what} {sorted(set(columns) & set(names))} are the outcome or the risk itself: name other columns")
    check_numbers(resamples, seed)
    sample, parts = read_sample(frame, outcome, [risk], group, positive, [*subgroups, *strata])
    source = None
    if site is not None:
        beside = _features(frame, names, site)
        source = source_leak(frame, outcome, site, group, features=beside, positive=positive, seed=seed)
    use = Use(alert_rate, sample.events / sample.rows if threshold is None else threshold)
    return RiskReport(
        facts=facts(sample, outcome, group, use, resamples, seed),
        risk=risk,
        metrics=measure([sample], use, resamples, seed).results(risk),
        ece_by_chance=error_by_chance(sample.risks[risk], seed),
        curves=draw_curves(sample, risk, use, resamples, seed),
        subgroups=tuple(part for name in subgroups for part in judge_parts(sample, parts[name], use, resamples, seed)),
        strata=tuple(part for name in strata for part in judge_parts(sample, event_strata(parts[name], sample), use, resamples, seed)),
        source=source,
        notes=_notes(sample, risk, group),
    )


def _features(frame: pl.DataFrame | pl.LazyFrame, named: Sequence[str], site: str) -> list[str]:
    there = frame.collect_schema().names()
    beside = [name for name in there if name not in (*named, site)]
    return beside or [named[1]]  # nothing but the risk: can the site be told from it?


def check_numbers(resamples: int, seed: int) -> None:
    """Refuse numbers that resampling cannot work with."""
    if not isinstance(resamples, int | np.integer) or resamples < _FEWEST_RESAMPLES:
        raise InputError(f"resamples must be a whole number from {_FEWEST_RESAMPLES}, got resamples={resamples!r}")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed must be a whole number from 0, got seed={seed!r}")


def facts(sample: Sample, outcome: str, group: str | None, use: Use, resamples: int, seed: int) -> dict[str, Any]:
    """What was judged and how, for every report."""
    return {
        "outcome": outcome,
        "group": group,
        "rows": sample.rows,
        "patients": sample.patients,
        "events": sample.events,
        "alert_rate": float(use.alert_rate),
        "threshold": float(use.threshold),
        "resamples": int(resamples),
        "seed": int(seed),
    }


def result_table(results: Mapping[str, Result]) -> pl.DataFrame:
    """Results as a frame: key, metric, value, low, high, n, why."""
    rows = [
        (key, BY_KEY[key].title, None, None, None, None, found.why)
        if isinstance(found, Undefined)
        else (key, BY_KEY[key].title, found.value, found.low, found.high, found.n, None)
        for key, found in results.items()
    ]
    numbers = dict.fromkeys(("value", "low", "high"), pl.Float64)
    return pl.DataFrame(rows, schema={"key": pl.String, "metric": pl.String, **numbers, "n": pl.Int64, "why": pl.String}, orient="row")


def part_table(parts: Sequence[Part]) -> pl.DataFrame:
    """Results of parts as a frame."""
    about = {"column": pl.String, "level": pl.String, "rows": pl.Int64, "events": pl.Int64}
    frames = [pl.DataFrame(schema={**about, **result_table({}).schema})]
    for part in parts:
        found = result_table(part.results) if part.results else result_table({}).clear(1).with_columns(why=pl.lit("withheld"))
        here = [
            pl.lit(value, dtype=about[name]).alias(name)
            for name, value in zip(about, (part.column, part.level, part.rows, part.events), strict=True)
        ]
        frames.append(found.select(*here, pl.all()))
    return pl.concat(frames)


def part_dict(part: Part) -> dict[str, Any]:
    """A part for JSON."""
    about = {"column": part.column, "level": part.level, "rows": part.rows, "events": part.events}
    return {**about, "metrics": as_dict(part.results)} if part.results else {**about, "metrics": None, "why": "withheld"}


def _notes(sample: Sample, risk: str, group: str | None) -> tuple[str, ...]:
    notes = []
    if sample.independent < _FEW_EVENTS:
        notes.append(
            f"Only {sample.independent} patients have the rarer outcome: the intervals are wide, and some hold the truth less often than "
            "95 times in a hundred (docs/guide/judge-a-risk.md says which)."
        )
    values = sample.risks[risk]
    if (values == values[0]).all():
        notes.append("The risks are all equal: such a risk ranks nobody. AUROC is .5 and AUPRC the event rate by definition.")
    edge = int(((values < EDGE) | (values > 1 - EDGE)).sum())
    if edge:
        notes.append(f"{edge} risks are 0 or 1, or within {EDGE:g} of it: on the log-odds scale they count as {EDGE:g} and 1 − {EDGE:g}.")
    if group is None:
        notes.append(
            "Every row counts as a patient of its own; where patients repeat, name their column (group) or the intervals are too narrow."
        )
    return tuple(notes)
