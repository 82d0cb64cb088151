"""Where the time of scoring goes: processor microseconds a row by stage, of a saved model, in one thread.

    .venv/bin/python -m benchmarks.risk.score_profile MODEL TABLE [--rows 1024]

TABLE is a Parquet file of new rows. Each stage is run five times and the least time is shown, so that the stages can add up to less than
the whole. The stages of retrieval are those of all encoders together.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import polars as pl

import nearward as nw
from benchmarks.common.markdown import markdown_rows
from nearward.retrieval.neighbors.voting import rows_per_shard
from nearward.risk_model.fitted import encode_rows, encoder_inputs, stack_columns
from nearward.tabular.parallel import limit_jobs, single_threaded

_TIMES = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--rows", type=int, default=1024)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    model, table = nw.load(args.model), pl.read_parquet(args.table)[: args.rows]
    with limit_jobs(1), single_threaded("torch", "faiss"):
        stages = {name: _microseconds(run) / table.height for name, run in _stages(model, table).items()}
    whole = stages["whole"]
    rows = [(name, f"{spent:.0f}", f"{spent / whole:.0%}") for name, spent in stages.items()]
    print(markdown_rows(("stage", "CPU µs a row", "share"), rows))


def _stages(model: nw.RiskClassifier, table: pl.DataFrame) -> dict[str, Callable[[], object]]:
    fitted, rows = model.fitted_.model, model.schema_.conform(table)
    retriever, base = fitted.retriever, fitted.base_learners
    encoded = encode_rows(fitted.table_encoder, rows, base.user_scores)
    inputs, shards = encoder_inputs(fitted.table_encoder, encoded), range(len(retriever.shards))
    embeddings = [retriever.embed(f, inputs)[0] for f in shards]
    k = rows_per_shard(retriever.setting.neighbours, len(shards))
    stages: dict[str, Callable[[], object]] = {
        "whole": lambda: model.predict_frame(table),
        "schema and encoding": lambda: encode_rows(fitted.table_encoder, model.schema_.conform(table), base.user_scores),
        "kernel regressions": lambda: [kernel.predict(encoded.dense) for kernel in base.kernel],
        "trees and logistic regression of all folds": lambda: [fold.log_odds(encoded) for fold in base.folds],
        "encoders": lambda: [retriever.embed(f, inputs) for f in shards],
        "search": lambda: [retriever.shards[f].search(embeddings[f], k) for f in shards],
        "contexts: encoders, search, weights": lambda: retriever.contexts(inputs, (retriever.setting,)),
    }
    if fitted.backbone is not None:
        contexts, head = retriever.contexts(inputs, (retriever.setting, *fitted.backbone.settings))
        columns = stack_columns(base.scores(encoded)[0], contexts[0].vote, head, retriever.has_head)
        stages["in-context model"] = lambda: fitted.backbone.predict(base.features(encoded), columns, contexts[1:])
    return stages


def _microseconds(run: Callable[[], object]) -> float:
    """Return the least time of some runs, after one that is not counted."""
    run()
    spent = []
    for _ in range(_TIMES):
        began = time.process_time()
        run()
        spent.append(time.process_time() - began)
    return min(spent) * 1e6


if __name__ == "__main__":
    main()
