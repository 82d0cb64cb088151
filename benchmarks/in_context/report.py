"""The page of the in-context weights: figures as CSV, tables in docs/benchmarks, the model card in docs/reference/in-context-model-card.md."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from benchmarks.common.markdown import markdown_rows, replace_part
from nearward.tabular.in_context.checkpoint import load_net

_DIGITS = {"time": 0, "calibration": 4}


def publish(lines: list[dict[str, Any]], tables: dict[str, dict[str, dict[str, Any]]], weights: Path) -> None:
    """Write what was measured of the weights."""
    with Path(__file__).with_name("incontext.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(lines)
    wanted = [line for line in lines if line["passed"] is not None]
    parts = [f"Weights `{lines[0]['sha256'][:12]}`; {sum(bool(line['passed']) for line in wanted)} of {len(wanted)} checks passed."]
    parts += [f"{name}:\n\n{_markdown(rows, _DIGITS.get(name, 3))}" for name, rows in tables.items()]
    rows = [(line["check"], line["case"], line["value"], line["wanted"], "" if line["passed"] else "**missed**") for line in wanted]
    parts.append("what was wanted:\n\n" + markdown_rows(("check", "case", "value", "wanted", ""), rows))
    replace_part("incontext", "\n\n".join(parts))
    replace_part("card", _card(weights))


def _markdown(rows: dict[str, dict[str, Any]], digits: int) -> str:
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    return markdown_rows(["", *names], [(case, *(row.get(name, "") for name in names)) for case, row in rows.items()], digits)


def _card(weights: Path) -> str:
    """The facts of the card that lies beside the weights."""
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
