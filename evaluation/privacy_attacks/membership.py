"""I, inference resistance: can it be told from the synthetic table who was in train?

True members are rows of train, true non-members rows of the holdout. The holdout is halved by patient; one half is judged while the
other is the attacker's reference, and then the other way round. A *control* gives the attack real rows in the synthetic table's place:
what it finds then is a difference between train and holdout, not a leak. A *baseline* looks at no synthetic row at all.

Letters: q rows asked about, s scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from nearward.evaluation.privacy_attacks.membership_attacks import ATTACKS, NEAR_COPY, Rows, attack
from nearward.evaluation.stats.auc import DeLongAUC, delong_auc, mean_auc
from nearward.evaluation.stats.confidence import Estimate, clopper_pearson, estimate_frame
from nearward.evaluation.tables.inputs import Tables, split_by_patient
from nearward.evaluation.tables.neighbors import sample_rows
from nearward.tabular.typing import Bools, Floats, Ints

EVERYONE, OUTLIERS, EVENTS = "everyone", "outliers", "the event"
_MOST_JUDGED = 1_000  # members, and as many non-members, in each half
_FEWEST = 10  # of a group on either side, to be judged apart
_ALARMS = 0.01
_LISTED: dict[str, type[pl.DataType]] = {
    **dict.fromkeys(("attack", "rows"), pl.String),
    **dict.fromkeys(("AUC", "baseline", "control", "true at 1 % false"), pl.Object),
    "verdict": pl.String,
}


@dataclass(frozen=True)
class Membership:
    """What the membership attacks found.

    Parameters
    ----------
    score : Estimate
        1 − 2 (AUC − ½)₊ of the strongest attack. Its lower end is made from the greatest upper bound of all attacks: the
        bounds hold together (max-T), so that choosing the strongest attack afterwards is allowed for.
    flagged : bool
        Some attack is better than chance, all attacks allowed for.
    attacks : pl.DataFrame
        Per attack and group of rows: attack, baseline and control (AUC), true positives at 1 % false alarms.
    judged : int
        Members and non-members, together.
    """

    score: Estimate
    flagged: bool
    attacks: pl.DataFrame
    judged: int


@dataclass(frozen=True)
class _Half:
    """One half of the holdout judged, members beside it: (q, s) scores of both, and who is what."""

    members: Floats
    others: Floats
    member_patient: Ints
    other_patient: Ints
    member_in: dict[str, Bools]
    other_in: dict[str, Bools]

    def area(self, group: str, columns: Ints | None = None) -> DeLongAUC | None:
        """Compare one group's members with its non-members; None where there are too few."""
        a, b = self.member_in[group], self.other_in[group]
        columns = np.arange(self.members.shape[1]) if columns is None else columns
        first, second = self.members[a][:, columns], self.others[b][:, columns]
        there_a, there_b = ~np.isnan(first).any(axis=1), ~np.isnan(second).any(axis=1)
        if min(there_a.sum(), there_b.sum()) < _FEWEST:
            return None
        return delong_auc(first[there_a], second[there_b], self.member_patient[a][there_a], self.other_patient[b][there_b])


def membership(tables: Tables, seed: int, control: bool = True) -> Membership:
    """Run every attack on the synthetic table and, unless told not to, on real rows in its place."""
    frames = {"train": tables.train, "holdout": tables.holdout, "synthetic": tables.synthetic}
    rows = {name: Rows.of(frame, tables.embedding) for name, frame in frames.items()}
    halves = list(split_by_patient(tables.holdout_patient_ids, 2, seed))
    members = list(split_by_patient(tables.train_patient_ids, 2, seed + 1))
    found, controls = [], []
    for f in (0, 1):
        inside, outside = _same_size(members[f], halves[f], seed + 2 + f)
        reference = rows["holdout"].take(halves[1 - f])
        found.append(_judge(tables, rows, inside, outside, rows["synthetic"], reference, seed + f))
        if control:
            mine, theirs = (halves[1 - f][part] for part in split_by_patient(tables.holdout_patient_ids[halves[1 - f]], 2, seed + 4))
            stand_in, rest = rows["holdout"].take(mine), rows["holdout"].take(theirs)
            controls.append(_judge(tables, rows, inside, outside, stand_in, rest, seed + f))
    listed = [row for group in (EVERYONE, OUTLIERS, EVENTS) for row in _listed(found, controls, group, seed)]
    counted = [row["AUC"] for row in listed if row["rows"] == EVERYONE]
    top = [max(getattr(area, end) for area in counted) for end in ("value", "high", "low")]
    kept = [1 - 2 * max(end - 0.5, 0.0) for end in top]
    judged = sum(len(half.members) + len(half.others) for half in found)
    return Membership(Estimate(kept[0], kept[1], kept[2], judged), top[2] > 0.5, estimate_frame(listed, _LISTED), judged)


def _same_size(inside: Ints, outside: Ints, seed: int) -> tuple[Ints, Ints]:
    count = min(len(inside), len(outside), _MOST_JUDGED)
    return inside[sample_rows(len(inside), count, seed)], outside[sample_rows(len(outside), count, seed + 1)]


def _judge(tables: Tables, rows: dict[str, Rows], inside: Ints, outside: Ints, synthetic: Rows, reference: Rows, seed: int) -> _Half:
    asked = Rows(
        np.concatenate([rows["train"].points[inside], rows["holdout"].points[outside]]),
        np.concatenate([rows["train"].letters[inside], rows["holdout"].letters[outside]]),
    )
    shuffled = np.random.default_rng(seed).permutation(len(asked))  # attacks that see only some of the rows must see both kinds
    scores, strange = np.empty((len(asked), len(ATTACKS))), np.empty(len(asked))
    scores[shuffled], strange[shuffled] = attack(asked.take(shuffled), synthetic, reference, seed)
    m = len(inside)
    event = np.concatenate([tables.events(tables.train)[inside], tables.events(tables.holdout)[outside]]) == 1
    groups = {EVERYONE: np.ones(len(asked), dtype=bool), OUTLIERS: strange >= np.quantile(strange, 0.9), EVENTS: event}
    scores = np.column_stack([scores, -strange])  # the last is the baseline: it looks at the reference alone
    return _Half(
        scores[:m],
        scores[m:],
        tables.train_patient_ids[inside],
        tables.holdout_patient_ids[outside],
        {name: chosen[:m] for name, chosen in groups.items()},
        {name: chosen[m:] for name, chosen in groups.items()},
    )


def _areas(halves: list[_Half], group: str, seed: int) -> list[Estimate] | None:
    """Areas of all attacks and, last, the baseline, with intervals that hold together for the attacks."""
    attacked = [_merged(half, group) for half in halves]
    if not attacked or any(one is None for one in attacked):
        return None
    whole = mean_auc([one for one in attacked if one is not None])
    bound = DeLongAUC(whole.auc[:-1], whole.influence[:, :-1], whole.n).simultaneous_intervals(seed)
    return [*bound, whole.intervals()[-1]]


def _merged(half: _Half, group: str) -> DeLongAUC | None:
    """Join the attacks on all rows with the one that was run on some of them, its influence at 0 for the others."""
    columns = np.arange(half.members.shape[1])
    some = np.isnan(half.members).any(axis=0) | np.isnan(half.others).any(axis=0)
    if not some.any():
        return half.area(group)
    most, few = half.area(group, columns[~some]), half.area(group, columns[some])
    if most is None or few is None:
        return None
    auc = np.empty(len(columns))
    auc[~some], auc[some] = most.auc, few.auc
    a, b = half.member_in[group], half.other_in[group]
    influence = np.zeros((len(most.influence), len(columns)))
    influence[:, ~some] = most.influence
    seen = [~np.isnan(half.members[a][:, some]).any(axis=1), ~np.isnan(half.others[b][:, some]).any(axis=1)]
    first, second = half.member_patient[a], half.other_patient[b]
    names = [np.unique(first), np.unique(second)]
    place = [
        np.searchsorted(names[0], np.unique(first[seen[0]])),
        len(names[0]) + np.searchsorted(names[1], np.unique(second[seen[1]])),
    ]
    influence[np.ix_(np.concatenate(place), np.flatnonzero(some))] = few.influence
    return DeLongAUC(auc, influence, few.n)


def _listed(found: list[_Half], controls: list[_Half], group: str, seed: int) -> list[dict[str, object]]:
    areas, blank = _areas(found, group, seed), _areas(controls, group, seed)
    if areas is None:
        return []
    rows = []
    for j, name in enumerate(ATTACKS):
        area = areas[j]
        rows.append(
            {
                "attack": name,
                "rows": group,
                "AUC": area,
                "baseline": areas[-1],
                "control": blank[j] if blank else None,
                "true at 1 % false": _caught(found, group, j),
                "verdict": _verdict(area, areas[-1]),
            }
        )
    return rows


def _verdict(area: Estimate, baseline: Estimate) -> str:
    if area.low > 0.5:
        return "tells members"
    return "cannot be trusted" if area.value <= max(baseline.value, 0.5) else "within chance"  # no better than guessing: no proof


def _caught(halves: list[_Half], group: str, j: int) -> Estimate | None:
    """Share of members above the score that at most 1 % of the non-members pass, with its exact interval."""
    caught = asked = 0
    for half in halves:
        members, others = half.members[half.member_in[group], j], half.others[half.other_in[group], j]
        members, others = members[~np.isnan(members)], np.sort(others[~np.isnan(others)])
        allowed = round(_ALARMS * len(others))  # an outlying tenth has about a hundred non-members: one of them, 1.0 or 1.1 %
        if not allowed:
            return None
        threshold = 0.5 if ATTACKS[j] == NEAR_COPY else others[-1 - allowed]  # that attack's calls were set at 1 % of the reference
        caught += int((members > threshold).sum())
        asked += len(members)
    return clopper_pearson(caught, asked)
