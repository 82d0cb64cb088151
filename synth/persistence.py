"""A fitted generator as a folder of files, and back; its rules are in a file of their own beside the hashed files, to be edited."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from nearward.synth.constraints.consistency import check_consistent, check_known_columns
from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.synth.differential_privacy.tree_marginals import TreeMarginals
from nearward.synth.generator import FitSummary, FittedGenerator
from nearward.synth.inputs.splits import AuditRows
from nearward.synth.optimization.tilting import TiltedPolicy
from nearward.synth.policy.autoregressive import Policy
from nearward.synth.policy.outcome_model import OutcomeModel
from nearward.synth.tokenizer.column_tokenizers import CategoryTokenizer, NumberTokenizer
from nearward.synth.tokenizer.date_differences import Difference
from nearward.synth.tokenizer.decimal_precision import DecimalPrecision, Grid
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.ensemble.trees import Forest
from nearward.tabular.errors import ArtifactError
from nearward.tabular.persistence.artifact import loading, pack, read_model, unpack, write_model
from nearward.tabular.rules.yaml_io import from_yaml, read_rules, to_yaml, write_rules
from nearward.tabular.typing import Arrays

KIND = "synthesizer"
RULES_FILE = "rules.yaml"
_PACKED = (TableTokenizer, NumberTokenizer, CategoryTokenizer, Difference, Grid, DecimalPrecision, OutcomeModel, Forest)
_POLICIES: dict[str, Any] = {"network": Policy, "tilted": TiltedPolicy, "marginals": TreeMarginals}
_PART = "(role)"  # column beside the records' columns: 0 train, 1 holdout, 2 steered


def save(settings: Mapping[str, Any], generator: FittedGenerator, folder: str | Path) -> None:
    """Write a generator and the synthesizer's settings; see ``Synthesizer.save``."""
    tensors: Arrays = {f"rows.{j}": counts for j, counts in enumerate(generator.token_counts)}
    rows = generator.audit_rows
    about = {
        "kind": KIND,
        **settings,
        "outcome": rows.outcome,
        "groups": rows.group,
        "positive": rows.positive,
        "rules": to_yaml(generator.rules),
        "summary": generator.summary.to_dict(),
        "tokens": pack(generator.tokenizer, tensors),
        "policy": generator.policy.state(tensors),
        "trees": pack(generator.outcome_model, tensors),
        "privacy": None if generator.privacy is None else generator.privacy.to_json(),
    }
    parts = [rows.train, rows.holdout, *([] if rows.steered is None else [rows.steered])]
    records = pl.concat([part.with_columns(pl.lit(i, dtype=pl.Int8).alias(_PART)) for i, part in enumerate(parts)])
    write_model(folder, about, tensors, records)
    write_rules(generator.rules, Path(folder) / RULES_FILE)


def load(folder: str | Path, settings: tuple[str, ...]) -> tuple[dict[str, Any], FittedGenerator]:
    """Read the settings of these names and the generator that ``save`` wrote; errors as ``Synthesizer.load``."""
    about, tensors, records, _ = read_model(folder)
    if about.get("kind") != KIND:
        raise ArtifactError(f"{folder} contains no synthesizer")
    edited = Path(folder) / RULES_FILE
    rules = read_rules(edited) if edited.is_file() else None  # the user's own: its errors are not the model's
    with loading(folder):
        train, holdout, steered = (records.filter(pl.col(_PART) == i).drop(_PART) for i in (0, 1, 2))
        tokenizer: TableTokenizer = unpack(about["tokens"], tensors, _PACKED)
        generator = FittedGenerator(
            tokenizer=tokenizer,
            policy=_POLICIES[about["policy"]["kind"]].from_state(about["policy"], tensors),
            token_counts=tuple(np.asarray(tensors[f"rows.{j}"]) for j in range(len(tokenizer.column_tokenizers))),
            rules=from_yaml(about["rules"]) if rules is None else rules,
            outcome_model=unpack(about["trees"], tensors, _PACKED),
            privacy=None if about["privacy"] is None else PrivacyAccountant.from_json(about["privacy"]),
            audit_rows=AuditRows(train, holdout, about["outcome"], about["positive"], about["groups"], steered if steered.height else None),
            summary=FitSummary.from_dict(about["summary"]),
        )
        chosen = {name: about[name] for name in settings}
    check_known_columns(generator.rules, [name for name in train.columns if name != generator.audit_rows.group])
    check_consistent(generator.rules)
    return chosen, generator
