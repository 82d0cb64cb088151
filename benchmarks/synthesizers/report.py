"""The tables of the synthesizer benchmark, from its raw CSV."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from benchmarks.common.markdown import markdown_rows, replace_part
from benchmarks.synthesizers.generators import ABLATION, OURS

_QUALITY = ("C2ST AUC", "TSTR / TRTR", "event share", "rows that break a rule")
_PRIVACY = ("membership AUC", "TPR at 1 % FPR, outlying tenth")
_LETTERS = ("F", "A", "I", "T", "H")
_TITLES = {"C2ST AUC": "C2ST AUC (95 %), .5 is best", "TSTR / TRTR": "TSTR / TRTR AUPRC (95 %)", "event share": "event share (95 %)"}


def publish(table: pl.DataFrame) -> None:
    """Replace the parts of docs/benchmarks that this benchmark owns."""
    main = [name for name in dict.fromkeys(table["model"]) if name not in ABLATION]
    replace_part("synth", "\n\n".join([_compared(table, main), _judged(table, main)]))
    variants = [name for name in dict.fromkeys(table["model"]) if name in ABLATION]
    ablated = table.filter(pl.col("cohort").is_in(table.filter(pl.col("model").is_in(variants))["cohort"]))
    replace_part("synth ablation", _compared(ablated, [OURS, *variants]) if variants else "Not run.")


def _compared(table: pl.DataFrame, models: Sequence[str]) -> str:
    names = ["cohort", "synthesizer", *(_TITLES.get(key, key) for key in _QUALITY), *_PRIVACY, "fit, s", "50,000 rows, s"]
    rows = []
    for cohort, model, measures in _each(table, models):
        if "failed" in measures:
            rows.append([cohort, model, measures["failed"]["note"], *[""] * (len(names) - 3)])
            continue
        values = [_interval(measures.get(key)) for key in (*_QUALITY, *_PRIVACY)]
        values[2] += f"; real {measures['event share, train']['value']:.3f}"
        values[3] += f"; holdout {measures['rows that break a rule, holdout']['value']:.3f}"
        if alone := measures.get("membership AUC, rows learned from"):
            values[4] += f"; rows learned from alone: {_interval(alone)}"
        if "own_broken" in measures:
            values[3] += f"; of its own {measures['own_rules']['value']:.0f} hard rules: {measures['own_broken']['value']:.0f} rows"
        rows.append([cohort, model, *values, f"{measures['fit']['value']:.0f}", f"{measures['sample']['value']:.1f}"])
    return markdown_rows(names, rows)


def _judged(table: pl.DataFrame, models: Sequence[str]) -> str:
    rows = [
        [cohort, model, *(_interval(measures.get(letter)) for letter in _LETTERS), measures["card"]["note"]]
        for cohort, model, measures in _each(table, models)
        if "failed" not in measures
    ]
    return "The card:\n\n" + markdown_rows(["cohort", "synthesizer", *_LETTERS, "verdict"], rows)


def _each(table: pl.DataFrame, models: Sequence[str]):
    for cohort in dict.fromkeys(table["cohort"]):
        for model in models:
            part = table.filter((pl.col("cohort") == cohort) & (pl.col("model") == model))
            if part.height:
                yield cohort, model, {row["measure"]: row for row in part.iter_rows(named=True)}


def _interval(row: dict | None) -> str:
    if row is None or row["value"] is None:
        return "not measurable"
    return f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
