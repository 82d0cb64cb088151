"""The page of a transport report: its figure and tables; the words are in ``evaluation/templates/transport.html.jinja``."""

from __future__ import annotations

from nearward.evaluation.html_page import render
from nearward.evaluation.provenance import Provenance
from nearward.evaluation.risk.disclosure_control import SUPPRESSION_NOTE
from nearward.evaluation.risk.html_report import site_section
from nearward.evaluation.risk.results import EvaluationFacts, SiteResults
from nearward.evaluation.stats.random_effects import PooledEstimate


def transport_page(model: str, facts: EvaluationFacts, results: SiteResults, removed: int, provenance: Provenance | None = None) -> str:
    """Return the page; ``removed`` is the number of training rows that were left out because their patient was judged."""
    pooled = {key: one for key, one in results.pooled.items() if isinstance(one, PooledEstimate)}
    return render(
        "transport.html.jinja",
        provenance,
        model=model,
        facts=facts,
        removed=removed,
        by_time=not results.pooled,
        parts=len(results.sites),
        pooled=pooled,
        section=site_section(results),
        suppression_note=SUPPRESSION_NOTE,
    )
