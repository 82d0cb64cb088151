"""A fitted synthesizer as a folder of files, and back; its rules stand beside the hashed files, to be read and edited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from nearward.synth.constraints.consistency import check_consistent, check_known_columns
from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.synth.differential_privacy.tree_marginals import TreeMarginals
from nearward.synth.inputs.splits import AuditRows
from nearward.synth.optimization.tilted import Tilted
from nearward.synth.policy.autoregressive import Policy
from nearward.synth.policy.outcome_model import OutcomeModel
from nearward.synth.tokenizer.column_tokenizers import CategoryTokenizer, NumberTokenizer
from nearward.synth.tokenizer.decimal_precision import DecimalPrecision, Grid
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.ensemble.trees import Forest
from nearward.tabular.errors import ArtifactError
from nearward.tabular.persistence.artifact import pack, read_model, unpack, write_model
from nearward.tabular.rules.yaml_io import from_yaml, read_rules, to_yaml, write_rules
from nearward.tabular.typing import Arrays

KIND = "synthesizer"
RULES_FILE = "rules.yaml"
_PARTS: tuple[type, ...] = (TableTokenizer, NumberTokenizer, CategoryTokenizer, Grid, DecimalPrecision)
_POLICIES: dict[str, Any] = {"network": Policy, "tilted": Tilted, "marginals": TreeMarginals}
_ROLE = "(role)"  # the artifact's own column beside the records' columns


def save(model: Any, folder: str | Path) -> None:
    """Write a fitted Synthesizer; see its ``save``."""
    tensors: Arrays = {}
    about = {
        "kind": KIND,
        "seed": model.seed,
        "optimiser": model.optimiser,
        "epsilon": model.epsilon,
        "target": model.target,
        "outcome": model.outcome,
        "groups": model.groups,
        "positive": model.positive,
        "rules": to_yaml(model.rules),
        "summary": model.summary_,
        "tokens": pack(model._tokens, tensors),
        "policy": model._policy.state(tensors),
        "trees": pack(model._trees, tensors),
        "privacy": None if model.privacy is None else model.privacy.to_json(),
    }
    for j, rows in enumerate(model._rows):
        tensors[f"rows.{j}"] = rows
    rows = model.audit_rows
    parts = [rows.train, rows.holdout, *([] if rows.steered is None else [rows.steered])]
    records = pl.concat([part.with_columns(pl.lit(i, dtype=pl.Int8).alias(_ROLE)) for i, part in enumerate(parts)])
    write_model(folder, about, tensors, records)
    write_rules(model.rules, Path(folder) / RULES_FILE)


def load(kind: type, folder: str | Path) -> Any:
    """Rebuild the synthesizer (of class ``kind``) that ``save`` wrote; errors as its ``load``."""
    about, tensors, records = read_model(folder)
    if about.get("kind") != KIND:
        raise ArtifactError(f"{folder} holds no synthesizer")
    model = kind(seed=about["seed"], optimiser=about["optimiser"], epsilon=about["epsilon"], target=about["target"])
    model.outcome, model.groups, model.positive = about["outcome"], about["groups"], about["positive"]
    edited = Path(folder) / RULES_FILE
    model.rules = read_rules(edited) if edited.is_file() else from_yaml(about["rules"])
    model.summary_ = about["summary"]
    model.privacy = None if about["privacy"] is None else PrivacyAccountant.from_json(about["privacy"])
    model._tokens = unpack(about["tokens"], tensors, {part.__name__: part for part in _PARTS})
    model._policy = _POLICIES[about["policy"]["kind"]].from_state(about["policy"], tensors)
    model._trees = unpack(about.get("trees"), tensors, {part.__name__: part for part in (OutcomeModel, Forest)})
    model._rows = [np.asarray(tensors[f"rows.{j}"]) for j in range(len(model._tokens.column_tokenizers))]
    train, holdout, steered = (records.filter(pl.col(_ROLE) == i).drop(_ROLE) for i in (0, 1, 2))
    model._schema = train.schema
    model.audit_rows = AuditRows(train, holdout, model.outcome, model.positive, model.groups, steered if steered.height else None)
    check_known_columns(model.rules, list(model._tokens.column_index))
    check_consistent(model.rules)
    return model
