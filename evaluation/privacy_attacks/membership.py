"""I, inference resistance: membership inference from the synthetic table.

Members are rows of train, non-members rows of the holdout. The holdout is split in two folds by patient; the non-members are from one
fold while the other is the attacker's reference, and vice versa. A *control* replaces the synthetic table by real rows: success then
shows a difference between train and holdout, not a leak. A *baseline* uses no synthetic row at all.

Shapes: q target rows, s scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.evaluation.privacy_attacks.membership_attacks import ATTACKS, NEAR_COPY, Rows, attack
from nearward.evaluation.stats.auc import DeLongAUC, delong_auc, mean_auc
from nearward.evaluation.stats.confidence import Estimate, clopper_pearson, estimate_frame, rows_to_dicts
from nearward.evaluation.tables.inputs import Tables, split_by_patient
from nearward.evaluation.tables.neighbors import sample_rows
from nearward.tabular.typing import Bools, Floats, Ints

ALL_ROWS, OUTLIERS, EVENTS = "everyone", "outliers", "the event"
_MAX_TARGETS = 1_000  # members, and as many non-members, in each fold
_MIN_TARGETS = 10  # members and non-members of a group, to be attacked separately
_FALSE_POSITIVES = 0.01
_COLUMNS: dict[str, type[pl.DataType]] = {
    **dict.fromkeys(("attack", "rows"), pl.String),
    **dict.fromkeys(("AUC", "baseline", "control", "true at 1 % false"), pl.Object),
    "verdict": pl.String,
}


@dataclass(frozen=True)
class Membership:
    """Results of the membership attacks.

    Parameters
    ----------
    score : Estimate
        1 − 2 (AUC − ½)₊ of the strongest attack, one less its advantage. Its lower bound is from the greatest upper bound of all attacks.
        The bounds hold simultaneously (max-T), which allows for selecting the strongest attack.
    flagged : bool
        Whether some attack is significantly better than chance, allowing for all attacks.
    attacks : pl.DataFrame
        AUC of each attack, its baseline and its control in each group of rows; true positive rate at a false positive rate of 1 %.
    judged : int
        Number of targets, members and non-members together.
    """

    score: Estimate
    flagged: bool
    attacks: pl.DataFrame
    judged: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields but the score as a dictionary, for JSON."""
        return {"flagged": self.flagged, "judged": self.judged, "attacks": rows_to_dicts(self.attacks)}


@dataclass(frozen=True)
class _Fold:
    """Members and non-members of one fold: (q, s) scores of both, their patients, and which of them are in each group."""

    members: Floats
    non_members: Floats
    member_patient_ids: Ints
    non_member_patient_ids: Ints
    member_groups: dict[str, Bools]
    non_member_groups: dict[str, Bools]

    def auc(self, group: str, columns: Ints) -> DeLongAUC | None:
        """Compare one group's members with its non-members, on rows with all of some scores; None where there are too few."""
        a, b = self.member_groups[group], self.non_member_groups[group]
        members, non_members = self.members[a][:, columns], self.non_members[b][:, columns]
        scored = ~np.isnan(members).any(axis=1), ~np.isnan(non_members).any(axis=1)
        if min(scored[0].sum(), scored[1].sum()) < _MIN_TARGETS:
            return None
        patient_ids = self.member_patient_ids[a][scored[0]], self.non_member_patient_ids[b][scored[1]]
        return delong_auc(members[scored[0]], non_members[scored[1]], *patient_ids)


def membership(tables: Tables, seed: int, control: bool = True) -> Membership:
    """Run every attack on the synthetic table and, as a control unless ``control`` is False, on real rows in its place."""
    frames = {"train": tables.train, "holdout": tables.holdout, "synthetic": tables.synthetic}
    rows = {name: Rows.of(frame, tables.embedding) for name, frame in frames.items()}
    holdout_folds = list(split_by_patient(tables.holdout_patient_ids, 2, seed))
    train_folds = list(split_by_patient(tables.train_patient_ids, 2, seed + 1))
    folds, control_folds = [], []
    for f in (0, 1):
        members, non_members = _same_size(train_folds[f], holdout_folds[f], seed + 2 + f)
        reference = holdout_folds[1 - f]
        folds.append(_attack_fold(tables, rows, members, non_members, rows["synthetic"], rows["holdout"].take(reference), seed + f))
        if control:
            stand_in, rest = (
                rows["holdout"].take(reference[part]) for part in split_by_patient(tables.holdout_patient_ids[reference], 2, seed + 4)
            )
            control_folds.append(_attack_fold(tables, rows, members, non_members, stand_in, rest, seed + f))
    table_rows = [row for group in (ALL_ROWS, OUTLIERS, EVENTS) for row in _table_rows(folds, control_folds, group, seed)]
    aucs = [row["AUC"] for row in table_rows if row["rows"] == ALL_ROWS]
    largest = [max(getattr(auc, bound) for auc in aucs) for bound in ("value", "high", "low")]
    value, low, high = (1 - 2 * max(auc - 0.5, 0.0) for auc in largest)
    targets = sum(len(fold.members) + len(fold.non_members) for fold in folds)
    return Membership(Estimate(value, low, high, targets), largest[2] > 0.5, estimate_frame(table_rows, _COLUMNS), targets)


def _same_size(members: Ints, non_members: Ints, seed: int) -> tuple[Ints, Ints]:
    n = min(len(members), len(non_members), _MAX_TARGETS)
    return members[sample_rows(len(members), n, seed)], non_members[sample_rows(len(non_members), n, seed + 1)]


def _attack_fold(
    tables: Tables, rows: dict[str, Rows], members: Ints, non_members: Ints, synthetic: Rows, reference: Rows, seed: int
) -> _Fold:
    targets = Rows(
        np.concatenate([rows["train"].embeddings[members], rows["holdout"].embeddings[non_members]]),
        np.concatenate([rows["train"].characters[members], rows["holdout"].characters[non_members]]),
    )
    order = np.random.default_rng(seed).permutation(len(targets))  # attacks on some of the targets must get both kinds
    scores, outlyingness = np.empty((len(targets), len(ATTACKS))), np.empty(len(targets))
    scores[order], outlyingness[order] = attack(targets.take(order), synthetic, reference, seed)
    scores = np.column_stack([scores, -outlyingness])  # the last is the baseline: it uses the reference alone
    event = np.concatenate([tables.events(tables.train)[members], tables.events(tables.holdout)[non_members]]) == 1
    outliers = outlyingness >= np.quantile(outlyingness, 0.9)
    groups = {ALL_ROWS: np.ones(len(targets), dtype=bool), OUTLIERS: outliers, EVENTS: event}
    m = len(members)
    return _Fold(
        scores[:m],
        scores[m:],
        tables.train_patient_ids[members],
        tables.holdout_patient_ids[non_members],
        {name: mask[:m] for name, mask in groups.items()},
        {name: mask[m:] for name, mask in groups.items()},
    )


def _table_rows(folds: list[_Fold], control_folds: list[_Fold], group: str, seed: int) -> list[dict[str, object]]:
    aucs, controls = _group_aucs(folds, group, seed), _group_aucs(control_folds, group, seed)
    if aucs is None:
        return []
    return [
        {
            "attack": name,
            "rows": group,
            "AUC": aucs[j],
            "baseline": aucs[-1],
            "control": controls[j] if controls else None,
            "true at 1 % false": _true_positive_rate(folds, group, j),
            "verdict": _verdict(aucs[j], aucs[-1]),
        }
        for j, name in enumerate(ATTACKS)
    ]


def _group_aucs(folds: list[_Fold], group: str, seed: int) -> list[Estimate] | None:
    """Return the AUCs of all attacks with simultaneous intervals and, last, of the baseline."""
    aucs = [auc for fold in folds if (auc := _joint_auc(fold, group)) is not None]
    if not folds or len(aucs) < len(folds):
        return None
    mean = mean_auc(aucs)
    attacks = DeLongAUC(mean.auc[:-1], mean.influence[:, :-1], mean.n).simultaneous_intervals(seed)
    return [*attacks, mean.intervals()[-1]]


def _joint_auc(fold: _Fold, group: str) -> DeLongAUC | None:
    """Join the attacks on all targets with the one on some of them, whose influence is 0 for the others."""
    columns = np.arange(fold.members.shape[1])
    partial = np.isnan(fold.members).any(axis=0) | np.isnan(fold.non_members).any(axis=0)
    if not partial.any():
        return fold.auc(group, columns)
    on_all, on_some = fold.auc(group, columns[~partial]), fold.auc(group, columns[partial])
    if on_all is None or on_some is None:
        return None
    auc = np.empty(len(columns))
    auc[~partial], auc[partial] = on_all.auc, on_some.auc
    influence = np.zeros((len(on_all.influence), len(columns)))
    influence[:, ~partial] = on_all.influence
    patients, offset = [], 0
    for scores, patient_ids, mask in (
        (fold.members, fold.member_patient_ids, fold.member_groups[group]),
        (fold.non_members, fold.non_member_patient_ids, fold.non_member_groups[group]),
    ):
        in_group = np.unique(patient_ids[mask])
        scored = ~np.isnan(scores[mask][:, partial]).any(axis=1)
        patients.append(offset + np.searchsorted(in_group, np.unique(patient_ids[mask][scored])))
        offset += len(in_group)
    influence[np.ix_(np.concatenate(patients), np.flatnonzero(partial))] = on_some.influence
    return DeLongAUC(auc, influence, on_some.n)


def _verdict(auc: Estimate, baseline: Estimate) -> str:
    if auc.low > 0.5:
        return "tells members"
    return "cannot be trusted" if auc.value <= max(baseline.value, 0.5) else "within chance"  # no better than guessing: no proof


def _true_positive_rate(folds: list[_Fold], group: str, j: int) -> Estimate | None:
    """Share of members above the score that at most 1 % of the non-members exceed, with its exact interval."""
    positives = targets = 0
    for fold in folds:
        members, non_members = fold.members[fold.member_groups[group], j], fold.non_members[fold.non_member_groups[group], j]
        members, non_members = members[~np.isnan(members)], np.sort(non_members[~np.isnan(non_members)])
        allowed = round(_FALSE_POSITIVES * len(non_members))  # about a hundred outliers are non-members: one of them, 1.0 or 1.1 %
        if not allowed:
            return None
        threshold = 0.5 if ATTACKS[j] == NEAR_COPY else non_members[-1 - allowed]  # near copies are called at 1 % of the reference
        positives += int((members > threshold).sum())
        targets += len(members)
    return clopper_pearson(positives, targets)
