"""The card as a whole: each bad synthesizer fails the right component, fresh real rows pass, and no number in the report is a NaN."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from nearward.datasets import read_cohort
from nearward.evaluation.privacy_attacks.membership import Membership
from nearward.evaluation.stats.confidence import Estimate
from nearward.evaluation.synthetic.card import _compare, _inference, _worst_inference, faith_card
from nearward.evaluation.synthetic.fidelity import independent_columns
from nearward.evaluation.synthetic.json_report import card_json, public_card_json
from nearward.evaluation.synthetic.results import Gates
from nearward.tabular.errors import InputError
from nearward.tabular.rules.kinds import Order, Range
from nearward.tabular.rules.rules import Rules
from nearward.tabular.rules.yaml_io import read_rules, write_rules

# rows of each table (the weaker the signal, the more T needs), and the bad synthesizers: on the made-up ward, each is judged too
COHORTS = {
    "support2": (3000, ["independent columns", "shuffled outcome"]),
    "thyroid0387": (3000, ["copycat", "majority only"]),
    "diabetes130": (9000, []),
}


def majority(frame: pl.DataFrame, outcome: str) -> pl.DataFrame:
    usual = frame[outcome].mode()[0]
    return frame.with_columns(pl.Series(outcome, [usual] * frame.height, dtype=frame[outcome].dtype))


def synthesizers(train: pl.DataFrame, fresh: pl.DataFrame, outcome: str) -> dict[str, tuple[pl.DataFrame, str]]:
    """Name -> its table, and the letters of the components that it must fail."""
    return {
        "copycat": (train, "I"),
        "independent columns": (independent_columns(train, seed=9), "FAT"),
        "shuffled outcome": (fresh.with_columns(fresh[outcome].shuffle(seed=9)), "T"),
        "majority only": (majority(fresh, outcome), "H"),
    }


def statuses(card) -> dict[str, str]:
    return {letter: component.status for letter, component in card.components.items()}


@pytest.fixture(scope="module")
def three(ward):
    return {name: ward(2500, seed) for seed, name in enumerate(("train", "holdout", "fresh"), start=1)}


@pytest.fixture(scope="module")
def fresh_card(three):
    return faith_card(train=three["train"], holdout=three["holdout"], synthetic=three["fresh"], outcome="died")


def test_fresh_real_rows_pass_all_five(fresh_card):
    assert statuses(fresh_card) == dict.fromkeys("FAITH", "passed")
    assert fresh_card.passed
    for component in fresh_card.components.values():
        assert 0 <= component.estimate.low <= component.estimate.value <= component.estimate.high <= 1
        assert component.estimate.high - component.estimate.low <= 0.3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["copycat", "independent columns", "shuffled outcome", "majority only"])
def test_each_bad_synthesizer_fails_where_it_must(name, three):
    synthetic, letters = synthesizers(three["train"], three["fresh"], "died")[name]
    card = faith_card(train=three["train"], holdout=three["holdout"], synthetic=synthetic, outcome="died")
    assert {letter for letter in letters if statuses(card)[letter] == "failed"} == set(letters), str(card)
    assert not card.passed


@pytest.mark.slow
@pytest.mark.cohort
@pytest.mark.parametrize("cohort", COHORTS)
def test_on_real_patients(cohort, cohort_folder):
    """Three random parts; in diabetes130 one visit a patient."""
    task = read_cohort(cohort_folder / f"{cohort}.parquet")
    frame = task.features.with_columns(event=task.outcome)
    if task.groups is not None:
        frame = frame[np.unique(task.groups, return_index=True)[1]]
    size, bad = COHORTS[cohort]
    frame = frame[np.random.default_rng(0).permutation(frame.height)]
    parts = [frame[i * size : (i + 1) * size] for i in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # thyroid0387 repeats rows
        card = faith_card(train=parts[0], holdout=parts[1], synthetic=parts[2], outcome="event")
        assert card.passed, str(card)
        for name in bad:
            synthetic, letters = synthesizers(parts[0], parts[2], "event")[name]
            card = faith_card(train=parts[0], holdout=parts[1], synthetic=synthetic, outcome="event")
            failed = {letter for letter in letters if statuses(card)[letter] == "failed"}
            assert failed == set(letters), f"{name}\n{card}"


def test_page_and_json(fresh_card, tmp_path):
    page, data = tmp_path / "card.html", tmp_path / "card.json"
    fresh_card.to_html(page)
    fresh_card.to_json(data)
    text = page.read_text()
    assert text.count("<svg") == 2
    assert "FAITH-style" in text
    assert "copy check" in text.lower()
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert not re.search(r"\bnan\b|\binf\b", text + data.read_text(), re.IGNORECASE)
    content = json.loads(data.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in the report"))
    assert content["passed"] is True
    assert {letter: part["status"] for letter, part in content["components"].items()} == statuses(fresh_card)
    assert content["components"]["F"]["estimate"]["value"] == fresh_card.components["F"].estimate.value
    assert len(content["membership"]["attacks"]) == 18


def test_reproducible(three, fresh_card):
    small = {name: frame[:400] for name, frame in three.items()}
    one, again = (
        faith_card(train=small["train"], holdout=small["holdout"], synthetic=small["fresh"], outcome="died", seed=3) for _ in range(2)
    )
    assert one.components == again.components
    assert one.components != fresh_card.components


def test_hostile_names_are_escaped_and_harmless(ward, tmp_path):
    bad = {"sex": "<script>alert(1)</script>", "ward": "=cmd()", "urea": "$\\frac"}
    frames = []
    for seed in (1, 2, 3):
        frame = ward(400, seed).rename(bad)
        level = pl.when(pl.col(bad["sex"]) == "f").then(pl.lit("=1+1")).otherwise(pl.lit("<img src=x onerror=alert(2)>"))
        frames.append(frame.with_columns(level.alias(bad["sex"])))
    card = faith_card(train=frames[0], holdout=frames[1], synthetic=frames[2], outcome="died")
    card.to_html(tmp_path / "card.html")
    text = (tmp_path / "card.html").read_text()
    assert "<script" not in text
    assert "<img" not in text
    assert "value of &lt;script&gt;" in text


def test_small_tables_are_not_measurable_rather_than_wrong(ward):
    card = faith_card(train=ward(80, 1), holdout=ward(80, 2), synthetic=ward(80, 3), outcome="died")
    assert not card.passed
    result = statuses(card)
    assert result["F"] == result["I"] == result["A"] == "not measurable"
    assert card.components["A"].estimate is None
    assert card.components["A"].why


def test_users_rules_count(three, tmp_path):
    path = tmp_path / "rules.yaml"
    write_rules(Rules((Order("sbp", "dbp"), Range("age", 0, 120))), path)
    small = {name: frame[:400] for name, frame in three.items()}
    card = faith_card(train=small["train"], holdout=small["holdout"], synthetic=small["fresh"], outcome="died", rules=path)
    rates = dict(card.adherence.rates.select("rule", "synthetic").iter_rows())
    assert rates["sbp is at most dbp"].value > 0.95
    assert rates["age is from 0 to 120"].value == 0
    assert [rule.evidence.source for rule in card.rules][:2] == ["user", "user"]


def test_seed_must_be_a_seed(three):
    for seed in (-1, 1.5, True):
        with pytest.raises(InputError, match="seed"):
            faith_card(train=three["train"], holdout=three["holdout"], synthetic=three["fresh"], outcome="died", seed=seed)


@pytest.mark.parametrize(
    ("low", "value", "high", "status"),
    [(0.7, 0.9, 1.0, "passed"), (0.5, 0.6, 0.75, "failed"), (0.5, 0.8, 1.0, "not measurable"), (0.1, 0.3, 0.55, "failed")],
)
def test_gate(low, value, high, status):
    assert _compare("F", "Fidelity", Estimate(value, low, high, 9), 0.6, Gates()).status == status


def test_a_proven_leak_fails_however_small():
    blank = pl.DataFrame()
    for high, status in ((0.98, "failed"), (0.995, "passed"), (1.0, "passed")):
        result = Membership(Estimate(0.96, 0.93, high, 9), high < 1, blank, 9)
        assert _inference(result, Gates()).status == status


def test_members_that_steered_the_generator_are_attacked_separately(three, ward, tmp_path):
    """A table that repeats no row of train, and all rows that steered."""
    steered = ward(400, 41)
    real = {"train": three["train"][:400], "holdout": three["holdout"][:400], "outcome": "died", "steered": steered}
    card = faith_card(synthetic=steered, **real)
    assert not card.membership.flagged
    assert card.steered.flagged
    assert card.components["I"].status == "failed"
    assert "steered" in card.components["I"].why
    assert card.copies.suspicious
    card.to_html(tmp_path / "card.html")
    assert "those that steered the generator" in (tmp_path / "card.html").read_text()
    assert card_json(card)["membership_of_steering_rows"]["flagged"] is True


def test_too_few_steering_rows_are_not_measurable(fresh_card):
    assert fresh_card.components["I"].status == "passed"
    assert _worst_inference(fresh_card.membership, None, has_steered=True, gates=Gates()).status == "not measurable"
    assert _worst_inference(fresh_card.membership, None, has_steered=False, gates=Gates()).status == "passed"


@pytest.mark.parametrize("repeated", [400, 130])
def test_no_table_passes_by_a_holdout_that_repeats_train(three, repeated, tmp_path):
    """Attackers cannot tell train from itself: a verbatim copy of it must not pass because of that."""
    train, other = three["train"][:400], three["holdout"][:400]
    holdout = pl.concat([train[:repeated], other[repeated:]]).sample(fraction=1, shuffle=True, seed=1)
    with pytest.warns(match="identical to a row of train"):
        card = faith_card(train=train, holdout=holdout, synthetic=train, outcome="died")
    assert not card.passed
    if repeated == 400:
        assert not card.membership.flagged
        assert card.components["I"].status == "not measurable"
        assert card.components["I"].estimate is None
        assert "the holdout repeats rows of train: 400 different rows are in both, 200 would be" in card.components["I"].why
        card.to_html(tmp_path / "card.html")
    else:
        assert card.components["I"].status == "failed"  # the leak is detected nevertheless


def test_a_holdout_that_repeats_steering_rows_is_no_holdout(three, ward):
    steered = ward(400, 41)
    with pytest.warns(match="identical to a row of train"):
        card = faith_card(train=three["train"][:400], holdout=steered[::-1], synthetic=steered, outcome="died", steered=steered)
    assert not card.membership.flagged
    assert card.components["I"].status == "not measurable"


def test_public_json_has_numbers_of_rules_and_no_values(fresh_card):
    content = public_card_json(fresh_card)
    full = card_json(fresh_card)
    assert [set(rule) for rule in content["adherence"]["rules"]] == [set(rule) - {"rule"} for rule in full["adherence"]["rules"]]
    assert len(content["adherence"]["rules"]) > 5
    with_small_counts = {"membership", "residual_risk", "heterogeneity"}
    assert {key for key in full if content[key] != full[key]} - with_small_counts == {"adherence"}
    text = json.dumps(content)
    for rule in fresh_card.rules:
        assert str(rule) not in text


@pytest.fixture(scope="module")
def files(three, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    for name, frame in three.items():
        frame[:1200].write_parquet(folder / f"{name}.parquet")
    return folder


def call(folder, synthetic="fresh", *more):
    from nearward.cli.main import app

    tables = ["--train", folder / "train.parquet", "--holdout", folder / "holdout.parquet", "--synthetic", folder / f"{synthetic}.parquet"]
    return CliRunner().invoke(app, [str(word) for word in ["evaluate", "synth", *tables, "--outcome", "died", *more]])


def test_command_line_on_a_card_that_failed(files):
    done = call(files, "train", "--report", files / "card.html", "--json", files / "card.json")
    assert done.exit_code == 4, done.output
    assert "NOT PASSED" in done.output
    assert "Inference resistance" in done.output
    assert (files / "card.html").is_file()
    assert json.loads((files / "card.json").read_text())["passed"] is False


def test_command_line_on_a_card_that_passed(files, fresh_card, monkeypatch):
    monkeypatch.setattr("nearward.evaluation.synthetic.card.faith_card", lambda **arguments: fresh_card)
    done = call(files, "fresh", "--write-rules", files / "found.yaml")
    assert done.exit_code == 0, done.output
    assert "no proof of anonymity" in done.output
    assert read_rules(files / "found.yaml") == fresh_card.rules


def test_command_line_on_bad_input(files):
    done = call(files, "fresh", "--positive", "2")
    assert isinstance(done.exception, InputError)
    assert "named as the event" in str(done.exception)
