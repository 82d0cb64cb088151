"""Report of the in-context weights: CSV file, tables in docs/benchmarks, facts of docs/reference/in-context-model-card.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.common.acceptance import AcceptanceChecks
from benchmarks.common.markdown import markdown_rows, replace_part
from benchmarks.common.paths import RESULTS
from nearward.tabular.in_context.checkpoint import load_net

_DIGITS = {"time": 0, "calibration": 4}


def publish(results: AcceptanceChecks, weights: Path) -> None:
    """Write the results of the weights."""
    pl.DataFrame(results.records()).write_csv(RESULTS / "in_context.csv")
    limited = results.limited
    parts = [f"Weights `{results.sha256[:12]}`; {sum(bool(one.passed) for one in limited)} of {len(limited)} checks passed."]
    parts += [f"{name}:\n\n{_markdown(rows, _DIGITS.get(name, 3))}" for name, rows in results.tables.items()]
    rows = [(one.check, one.case, one.value, one.limit, "" if one.passed else "**missed**") for one in limited]
    parts.append("limits:\n\n" + markdown_rows(("check", "case", "value", "limit", ""), rows))
    replace_part("incontext", "\n\n".join(parts))
    replace_part("card", _card(weights))


def _markdown(rows: dict[str, dict[str, Any]], digits: int) -> str:
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    return markdown_rows(["", *names], [(case, *(row.get(name, "") for name in names)) for case, row in rows.items()], digits)


def _card(weights: Path) -> str:
    """Return the facts of the card beside the weights."""
    card, net = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8")), load_net(weights)
    size = ", ".join(f"{name} {value}" for name, value in card["network"].items())
    run = f"{card['steps']:,} steps of {card['rows_per_step']:,} stored rows, {card['seconds'] / 60:.0f} minutes, seed {card['seed']}"
    facts = {
        "parameters": f"{sum(p.numel() for p in net.parameters()):,} ({size}), float16, {card['size'] / 1e6:.1f} MB",
        "sha256": f"`{card['sha256']}`",
        "last run": run,
        "began from": f"weights with sha256 `{card['start'][:12]}…`" if "start" in card else "random weights",
        "loss over the prevalence's, tasks never trained on": ", ".join(f"{k} {v:.3f}" for k, v in card["loss_over_base"].items()),
    }
    return markdown_rows(("", ""), facts.items())
