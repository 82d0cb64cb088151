"""Contexts by raw kNN and by AWARE where the stored patients are another site's: the in-context network alone, at regions of GUSTO-I.

    .venv/bin/python -m benchmarks.adaptation.contexts [--data FILE] [--regions 1,2] [--publish]

Half of a region is judged, under contexts of 128 stored patients. These are the region's other half, as many of the next region, or all
patients of the other regions. Encoders are fitted on the stored patients alone. Contexts and network are those of the stress test
(``benchmarks/in_context/context_stress.py``). Risks are cached in out/adaptation_contexts.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score, log_loss

from benchmarks.adaptation.gusto import DATA, SITE, interval_over_regions, split
from benchmarks.common.markdown import markdown, replace_part
from benchmarks.common.paths import OUT, RESULTS, cached_arrays
from benchmarks.in_context.context_stress import AWARE, context_risks, fit_retrieval
from nearward.tabular.typing import Floats

CACHE = OUT / "adaptation_contexts"
STORES = ("own region", "next region", "other regions")
_DIGITS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--regions", default="1,2,3,4,5,6,7,8,9,10")
    parser.add_argument("--stores", default=",".join(STORES))
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    frame = pl.read_parquet(args.data)
    table = pl.DataFrame([row for region in args.regions.split(",") for row in judge(frame, int(region), args.stores.split(","))])
    summary = summarise(table)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220):
        print(table, summary, sep="\n")
    if args.publish:
        table.write_csv(RESULTS / "adaptation_contexts.csv")
        replace_part("adaptation contexts", markdown(summary, _DIGITS))


def judge(frame: pl.DataFrame, region: int, stores: list[str]) -> list[dict[str, object]]:
    """Return AUPRC and log loss at half of a region, by stored patients and context."""
    regions = sorted(frame[SITE].unique())
    following = regions[(regions.index(region) + 1) % len(regions)]
    here = _shuffled(frame, region)
    judged, own = here[: here.height // 2], here[here.height // 2 :]
    stored = {
        "own region": own,
        "next region": _shuffled(frame, following)[: own.height],
        "other regions": frame.filter(pl.col(SITE) != region),
    }
    outcome, rows = split(judged)[1], []
    for name in stores:

        def risks(patients: pl.DataFrame = stored[name]) -> dict[str, Floats]:
            return context_risks(fit_retrieval(_numbered(patients), _numbered(judged), region))

        for context, risk in cached_arrays(CACHE / f"{name.replace(' ', '-')}.{region}.npz", risks).items():
            values = {"AUPRC": average_precision_score(outcome, risk), "log loss": log_loss(outcome, risk)}
            rows.append({"region": region, "stored": name, "rows": stored[name].height, "context": context, **values})
    return rows


def _shuffled(frame: pl.DataFrame, region: int) -> pl.DataFrame:
    here = frame.filter(pl.col(SITE) == region)
    return here[np.random.default_rng(0).permutation(here.height)]


def _numbered(frame: pl.DataFrame) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """Return features, outcome and patients: each row is one."""
    return *split(frame), np.arange(frame.height)


def summarise(table: pl.DataFrame) -> pl.DataFrame:
    """Return means over regions, and what AWARE gains over each other context with its interval over regions."""
    rows = []
    for (name, context), part in table.group_by("stored", "context", maintain_order=True):
        aware = table.filter(pl.col("stored") == name, pl.col("context") == AWARE)
        pairs = part.join(aware, on="region", suffix=" aware", maintain_order="left")
        row = {"stored patients": name, "context": context, "regions": part.height}
        row |= {"AUPRC": part["AUPRC"].mean(), "log loss": part["log loss"].mean()}
        for metric, sign in (("AUPRC", 1), ("log loss", -1)):
            gains = (sign * (pairs[f"{metric} aware"] - pairs[metric])).to_numpy()
            row[f"AWARE gains in {metric}"] = "–" if context == AWARE else interval_over_regions(gains)
        rows.append(row)
    order = pl.col("stored patients").replace_strict(STORES, range(len(STORES)), return_dtype=pl.Int64)
    return pl.DataFrame(rows).sort(order, maintain_order=True)


if __name__ == "__main__":
    main()
