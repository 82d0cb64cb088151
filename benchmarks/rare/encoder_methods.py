"""Adapters of the rare-outcome benchmark: options of the AWARE encoder, each in a RiskClassifier that is otherwise untouched."""

from __future__ import annotations

from dataclasses import replace

import nearward as nw
from benchmarks.encoders.options import BLOCKS
from benchmarks.rare.training_set import Cell, Method, Scored
from nearward.tabular.data.schema import Schema


def _blocks(cell: Cell) -> Scored | None:
    """Block dropout at its price: no test row lacks a block here."""
    named = BLOCKS.get(cell.task.split("@")[0])
    if named is None:
        return None
    block_of = {column: block for block, columns in named.items() for column in columns}
    schema = Schema(tuple(replace(column, block=block_of.get(column.name)) for column in cell.schema.columns))
    return cell.judged(schema=schema, encoder=nw.EncoderConfig(block_dropout=0.3))


def _pretext(name: str) -> Method:
    def fit(cell: Cell) -> Scored:
        return cell.judged(encoder=nw.EncoderConfig(pretext=name))

    return fit


METHODS: dict[str, Method] = {
    "block dropout": _blocks,
    "pretext: masked cells": _pretext("masked"),
    "pretext: unequal views": _pretext("views"),
}
