"""Methods of the rare-outcome benchmark: options of the AWARE encoder, each in an otherwise untouched RiskClassifier."""

from __future__ import annotations

from dataclasses import replace

import nearward as nw
from benchmarks.encoders.options import BLOCKS
from benchmarks.rare.training_set import Method, Scored, Setting
from nearward.tabular.data.schema import Schema


def _blocks(setting: Setting) -> Scored | None:
    """Block dropout where no test row lacks a block: its cost."""
    blocks = BLOCKS.get(setting.task.split("@")[0])
    if blocks is None:
        return None
    block_of = {column: block for block, columns in blocks.items() for column in columns}
    schema = Schema(tuple(replace(column, block=block_of.get(column.name)) for column in setting.schema.columns))
    return setting.judged(schema=schema, encoder=nw.EncoderConfig(block_dropout=0.3))


def _pretext(name: str) -> Method:
    def fit(setting: Setting) -> Scored:
        return setting.judged(encoder=nw.EncoderConfig(pretext=name))

    return fit


METHODS: dict[str, Method] = {
    "block dropout": _blocks,
    "pretext: masked cells": _pretext("masked"),
    "pretext: unequal views": _pretext("views"),
}
