"""Leaks are detected, independent tables are not flagged."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.evaluation.privacy_attacks.membership import ALL_ROWS, EVENTS, OUTLIERS, membership
from nearward.evaluation.privacy_attacks.membership_attacks import ATTACKS, Rows, attack
from nearward.evaluation.tables.inputs import read_tables
from nearward.evaluation.tables.neighbors import nearest_neighbors


def jittered(frame: pl.DataFrame, seed: int, by: float = 0.02) -> pl.DataFrame:
    """Add noise to every number, a share of its standard deviation."""
    rng = np.random.default_rng(seed)
    numbers = [name for name, dtype in frame.schema.items() if dtype == pl.Float64]
    moved = [pl.col(name) + pl.Series(rng.normal(0, by * frame[name].std(), frame.height)) for name in numbers]
    return frame.with_columns(moved)


def leaking(train: pl.DataFrame, fresh: pl.DataFrame, share: float, seed: int, by: float = 0.0) -> pl.DataFrame:
    """Fresh rows, a share of them replaced by rows of train, with noise or without."""
    count = round(share * train.height)
    copied = train[np.random.default_rng(seed).permutation(train.height)[:count]]
    return pl.concat([jittered(copied, seed, by) if by else copied, fresh[count:]])


@pytest.fixture(scope="module")
def three(ward):
    return ward(1000, 1), ward(1000, 2), ward(1000, 3)


def run(three, synthetic, seed=0, control=False):
    return membership(read_tables(three[0], three[1], synthetic, "died"), seed, control)


def test_a_copy_of_train_is_detected_by_each_attack(three):
    result = run(three, three[0])
    assert result.flagged
    assert result.score.low == result.score.value == 0.0
    aucs = {name: auc for name, rows, auc in result.attacks.select("attack", "rows", "AUC").iter_rows() if rows == ALL_ROWS}
    assert set(aucs) == set(ATTACKS)
    assert all(auc.low > 0.5 for auc in aucs.values()), aucs
    rates = {
        name: rate for name, rows, rate in result.attacks.select("attack", "rows", "true at 1 % false").iter_rows() if rows == ALL_ROWS
    }
    assert min(rates[name].low for name in ("nearest neighbour", "classifier", "edit distance", "near copy")) > 0.9


def test_fresh_rows_are_not_flagged_and_every_attack_is_reported(three):
    result = run(three, three[2], control=True)
    assert not result.flagged
    assert result.score.high == 1.0
    assert result.score.low > 0.8
    assert result.judged == 2000
    table = result.attacks
    assert set(table["rows"]) == {ALL_ROWS, OUTLIERS, EVENTS}
    assert table.height == 3 * len(ATTACKS)
    assert all(auc is not None and auc.low < 0.5 < auc.high for auc in table["control"])
    rates = table.filter(pl.col("rows") == ALL_ROWS)["true at 1 % false"].to_list()
    assert all(rate.low < 0.03 for rate in rates)
    assert set(table["verdict"]) <= {"within chance", "cannot be trusted"}


def test_five_percent_of_copied_rows_are_detected(three):
    rates = [run(three, leaking(three[0], three[2], 0.05, seed), seed).score.high < 1 for seed in range(4)]
    assert all(rates)


def test_noisy_copies_are_detected_at_a_fifth(three):
    for by in (0.02, 0.1):
        assert run(three, leaking(three[0], three[2], 0.2, 0, by)).flagged


def test_copied_outliers_are_reported_separately(three):
    tables = read_tables(*three, "died")
    embeddings = tables.embedding.transform(tables.train)
    distance = nearest_neighbors(embeddings, embeddings, 2)[0][:, 1]
    outliers = three[0][np.argsort(-distance)[:100]]
    result = run(three, pl.concat([outliers, three[2][100:]])).attacks
    best = {rows: max(auc.value for auc in part["AUC"]) for (rows,), part in result.group_by("rows")}
    assert best[OUTLIERS] > best[ALL_ROWS] + 0.1
    assert set(result.filter((pl.col("rows") == OUTLIERS) & (pl.col("attack") == "near copy"))["verdict"]) == {"tells members"}


def test_equal_rows_on_both_sides_are_no_leak():
    """In a narrow table every row has duplicates: a repeated row is no leak."""

    def narrow(seed):
        rng = np.random.default_rng(seed)
        return pl.DataFrame(
            {"sex": rng.choice(["f", "m"], 800).tolist(), "grade": rng.integers(1, 4, 800), "died": rng.integers(0, 2, 800)}
        )

    with pytest.warns(UserWarning, match=r"100\.0% of the holdout"):
        tables = read_tables(narrow(1), narrow(2), narrow(1), "died")
    assert not membership(tables, 0, control=False).flagged


def test_scores_do_not_depend_on_the_other_targets(three):
    tables = read_tables(*three, "died")
    targets, synthetic, reference = (Rows.of(frame, tables.embedding) for frame in (tables.train[:200], tables.synthetic, tables.holdout))
    together, _ = attack(targets, synthetic, reference, 0)
    alone, _ = attack(targets.take(np.arange(50)), synthetic, reference, 0)
    assert alone == pytest.approx(together[:50], abs=1e-4)


def test_same_seed_same_result(three):
    one, again, other = (run(three, three[2], seed).score for seed in (0, 0, 1))
    assert one == again != other


def test_patients_with_many_rows_widen_the_interval(ward):
    frames = [ward(400, seed) for seed in (1, 2)]
    many = [pl.concat([frame] * 3).with_columns(patient=pl.Series(np.tile(np.arange(400), 3) + 1000 * i)) for i, frame in enumerate(frames)]
    grouped = membership(read_tables(*many, ward(400, 3), "died", group="patient"), 0, control=False)
    naive = [frame.with_columns(patient=pl.int_range(pl.len()) + 9000 * i) for i, frame in enumerate(many)]
    ungrouped = membership(read_tables(*naive, ward(400, 3), "died", group="patient"), 0, control=False)
    width = [np.mean([auc.high - auc.low for auc in result.attacks["AUC"][:4]]) for result in (grouped, ungrouped)]
    assert width[0] > 1.3 * width[1]


@pytest.mark.slow
def test_an_independent_table_is_flagged_for_at_most_five_of_sixty_seeds(ward):
    """One in forty would be by the interval's level; five leaves room for chance. A rate of 15 % would be detected nine times in ten."""
    flagged = []
    for seed in range(60):
        tables = read_tables(ward(400, 3 * seed), ward(400, 3 * seed + 1), ward(400, 3 * seed + 2), "died")
        flagged.append(membership(tables, seed, control=False).flagged)
    assert sum(flagged) <= 5, np.flatnonzero(flagged)


@pytest.mark.slow
def test_leaks_are_detected_for_any_seed(ward):
    for share, by in ((0.05, 0.0), (0.2, 0.05)):
        rates = 0
        for seed in range(12):
            train, holdout, fresh = (ward(1000, 5000 + 3 * seed + i) for i in range(3))
            tables = read_tables(train, holdout, leaking(train, fresh, share, seed, by), "died")
            rates += membership(tables, seed, control=False).flagged
        assert rates >= 11, (share, by, rates)
