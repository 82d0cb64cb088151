from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from nearward import correct_prior
from nearward.evaluation.stats.confidence import wilson
from nearward.evaluation.synthetic.card import Gates
from nearward.evaluation.synthetic.json_report import card_json
from nearward.release.audit import AuditRows, audit
from nearward.release.export import describe, export_synthetic, export_table, sample_and_audit
from nearward.synth.audit_log import AuditedTable, AuditLog
from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.synth.provenance import read_stamp, table_hash, verify
from nearward.tabular.errors import ArtifactError, ExportRefused, InputError, StaleAudit
from nearward.tabular.rules.kinds import Order, Range
from nearward.tabular.rules.rule import Evidence
from nearward.tabular.rules.rules import Rules

LENIENT = Gates(fidelity=0.3, adherence=0.3, inference=0.3, proven=0.2, utility=0.2, heterogeneity=0.3, widest=1.0)
REASON = "reviewed by the data board"


@dataclass
class FakeGenerator:
    """A generator that samples with the function it is constructed with."""

    make: object
    audit_rows: AuditRows | None
    rules: Rules = field(default_factory=Rules)
    seed: int = 0

    def sample(self, n, where=None, seed=None):
        return self.make(n, 11 + (seed or 0))


@pytest.fixture(scope="module")
def rows(ward):
    return AuditRows(ward(1200, 1), ward(1200, 2), "died", 1)


@pytest.fixture(scope="module")
def fresh(ward, rows):
    """A table of the same ward, and its audit, as if the usual gates had been reached on so few rows."""
    table = ward(1200, 3)
    lenient = audit(table, rows, Rules((Order("dbp", "sbp"),)), LENIENT)
    return table, replace(lenient, card=replace(lenient.card, gates=Gates()))


@pytest.fixture(scope="module")
def copied(rows):
    """Train itself, and its audit."""
    return rows.train, audit(rows.train, rows)


def test_a_table_that_passes_is_written_with_its_stamp(tmp_path, fresh):
    table, verdict = fresh
    assert verdict.missed == []
    path = tmp_path / "synth.parquet"
    written = export_table(table, path, verdict, about={"seed": 7}, rules=Rules((Order("dbp", "sbp"),)))
    stamp = verify(path)
    assert stamp == written
    assert stamp["passed"] is True
    assert stamp["accepted_risk"] is None
    assert stamp["generator"] == {"seed": 7}
    assert stamp["rules"]["rows that break one"]["value"] == 0
    assert "dbp" in stamp["rules"]["listed"]
    attacks = stamp["audit"]["membership"]["attacks"]
    assert {"value", "low", "high", "n"} == set(attacks[0]["AUC"])
    assert "not guaranteed" in stamp["privacy"]["statement"]
    assert stamp["sampled_prior"]["sampled"]["value"] == pytest.approx(table["died"].mean())
    assert [column["name"] for column in stamp["schema"]["columns"]] == table.columns
    assert pl.read_parquet(path).equals(table)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_copy_of_train_is_refused_and_no_file_remains(tmp_path, copied):
    table, verdict = copied
    with pytest.raises(ExportRefused, match="Inference resistance failed") as refusal:
        export_table(table, tmp_path / "synth.parquet", verdict)
    assert "repeat a row of train" in str(refusal.value)
    assert list(tmp_path.iterdir()) == []
    assert issubclass(ExportRefused, ArtifactError)  # exit code 3


@pytest.mark.parametrize(
    "gates", [Gates(fidelity=0.59), Gates(inference=0.7), Gates(proven=0.02), Gates(widest=0.31), Gates(heterogeneity=0.0)]
)
def test_a_gate_laxer_than_the_default_counts_as_missed(tmp_path, fresh, gates):
    table, verdict = fresh
    lax = replace(verdict, card=replace(verdict.card, gates=gates))
    (missed,) = lax.missed
    assert "laxer than the default" in missed
    with pytest.raises(ExportRefused, match="laxer"):
        export_table(table, tmp_path / "synth.parquet", lax)
    stamp = export_table(table, tmp_path / "synth.parquet", lax, accept_risk=REASON)
    assert (stamp["passed"], stamp["missed"]) == (False, [missed])


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.5, "strict", None])
def test_a_gate_that_is_no_share_is_refused(value):
    with pytest.raises(InputError, match="fidelity must be a number from 0 to 1"):
        Gates(fidelity=value)


def test_a_gate_stricter_than_the_default_is_no_reason_to_refuse(fresh):
    _, verdict = fresh
    strict = Gates(fidelity=0.7, adherence=0.9, inference=0.9, proven=0.0, utility=0.8, heterogeneity=0.8, widest=0.2)
    assert replace(verdict, card=replace(verdict.card, gates=strict)).missed == []


def test_the_stamp_has_no_count_of_single_real_rows(tmp_path, fresh):
    table, verdict = fresh
    evidence = Evidence("mined", 412, 3, 0.02, events=7)
    stamp = export_table(table, tmp_path / "synth.parquet", verdict, rules=Rules((Order("dbp", "sbp", evidence=evidence),)))
    assert "412" not in stamp["rules"]["listed"]
    assert "source: mined" in stamp["rules"]["listed"]
    rare = replace(verdict, prior=replace(verdict.prior, train=wilson(4, 1200)))
    share = export_table(table, tmp_path / "synth.parquet", rare)["sampled_prior"]["train"]
    assert share == {"value": None, "low": 0.0, "high": 0.014, "n": 1200, "suppressed": "fewer than 10 rows"}
    few = []

    def look(body, name):
        if isinstance(body, dict) and {"value", "low", "high", "n"} == set(body) and body["value"] is not None:
            rows = body["value"] * body["n"]
            if 0 <= body["value"] <= 1 and abs(rows - round(rows)) < 1e-6 and 0 < round(min(rows, body["n"] - rows)) < 10:
                few.append(name)
        for key, value in body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ():
            look(value, f"{name}.{key}")

    look(card_json(verdict.card), "card")
    assert few  # the owner's card has such counts
    few.clear()
    look(stamp["audit"], "stamp")
    assert few == []


def test_tables_that_were_audited_are_counted_in_the_generator_and_in_the_stamp(tmp_path, ward, monkeypatch):
    verdict = SimpleNamespace(missed=["Fidelity failed"], sha256="")

    def audited(table, *_):
        verdict.sha256 = table_hash(table)
        return verdict

    monkeypatch.setattr("nearward.release.export.audit", audited)
    log = AuditLog()
    generator = FakeGenerator(ward, AuditRows(ward(100, 1), ward(100, 2), "died", 1))
    generator.record_audit = lambda sha256, seed, rows, *, passed: log.add(AuditedTable(sha256, seed, rows, passed)) or log.counts()
    tries = [sample_and_audit(generator, 100, seed=seed).audits for seed in (0, 1, 1)]
    assert tries == [{"audited": 1, "passed": 0}, {"audited": 2, "passed": 0}, {"audited": 2, "passed": 0}]  # the same table counts once
    assert describe(generator, 1, audits=tries[-1])["tables_of_this_generator"] == {"audited": 2, "passed": 0}
    assert sample_and_audit(FakeGenerator(ward, None), 100).audits is None


def test_an_accepted_risk_is_written_into_the_file(tmp_path, copied):
    table, verdict = copied
    path = tmp_path / "synth.csv"
    export_table(table, path, verdict, accept_risk=REASON)
    stamp = verify(path)
    assert stamp["passed"] is False
    assert stamp["accepted_risk"]["reason"] == REASON
    assert any("Inference" in missed for missed in stamp["accepted_risk"]["missed"])
    with pytest.raises(InputError, match="reason"):
        export_table(table, path, verdict, accept_risk=" ok ")


def test_a_component_that_is_not_measurable_is_refused_with_its_reason(tmp_path, ward):
    small = AuditRows(ward(150, 1), ward(150, 2), "died", 1)
    generator = FakeGenerator(ward, small)
    with pytest.raises(ExportRefused, match="not measurable") as refusal:
        export_synthetic(generator, 150, tmp_path / "synth.parquet")
    assert "n too small" in str(refusal.value) or "no rule holds" in str(refusal.value)
    stamp = export_synthetic(generator, 150, tmp_path / "synth.parquet", accept_risk=REASON)
    assert any("not measurable" in missed for missed in stamp["missed"])


def test_a_missing_audit_refuses_the_export(tmp_path, ward):
    generator = FakeGenerator(ward, None)
    with pytest.raises(ExportRefused, match="no audit"):
        export_synthetic(generator, 200, tmp_path / "synth.parquet")
    assert list(tmp_path.iterdir()) == []
    stamp = export_synthetic(generator, 200, tmp_path / "synth.parquet", accept_risk=REASON)
    assert stamp["audit"] is None
    assert stamp["passed"] is False
    with pytest.raises(ExportRefused, match="no audit"):
        audit(ward(200, 1), None)


def test_an_audit_of_another_table_is_always_refused(tmp_path, fresh):
    table, verdict = fresh
    other = table.with_columns(pl.col("age") + 1)
    for reason in (None, REASON):
        with pytest.raises(StaleAudit):
            export_table(other, tmp_path / "synth.parquet", verdict, accept_risk=reason)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_hard_rule_is_refused(tmp_path, fresh, rows):
    table, verdict = fresh
    never = Rules((Range("age", 0, 1),))
    violating = replace(verdict, violations=violation_share(table, never))
    with pytest.raises(ExportRefused, match="break a hard rule"):
        export_table(table, tmp_path / "synth.parquet", violating, rules=never)


def violation_share(table, rules):
    from nearward.evaluation.stats.confidence import wilson

    return wilson(int(rules.violations(table).any(axis=1).sum()), table.height)


def test_the_stamp_has_no_bounds_of_the_audits_rules(tmp_path, fresh):
    table, verdict = fresh
    adherence = verdict.card.adherence
    rates = adherence.rates.with_columns(rule=pl.format("{} and age is from 18.25 to 97.75", "rule"))
    verdict = replace(verdict, card=replace(verdict.card, adherence=replace(adherence, rates=rates)))
    stamp = export_table(table, tmp_path / "synth.parquet", verdict)
    text = json.dumps(stamp, ensure_ascii=False)
    assert "97.75" not in text
    assert [rule for rule in adherence.rules if str(rule) in text] == []
    listed = stamp["audit"]["adherence"]["rules"]
    assert len(listed) == len(adherence.rules) > 3
    assert all(set(rule) == {"kind", "source", "holdout", "synthetic", "independent columns"} for rule in listed)


def test_rules_that_are_not_enforced_are_not_called_hard(tmp_path, fresh):
    table, verdict = fresh
    shown = Range("age", 0, 50, evidence=Evidence("mined", 100, 0, 0.01, events=3, enforced=False))
    only = export_table(table, tmp_path / "a.parquet", verdict, rules=Rules((shown,)))["rules"]
    assert (only["hard"], only["listed"]) == (0, None)
    both = export_table(table, tmp_path / "b.parquet", verdict, rules=Rules((Order("dbp", "sbp"), shown)))["rules"]
    assert both["hard"] == 1
    assert "dbp" in both["listed"]
    assert "age" not in both["listed"]


def test_the_callers_rows_replace_only_the_holdout(monkeypatch, ward):
    own = AuditRows(ward(100, 1), ward(100, 2), "died", 1, steered=ward(60, 3))
    audited = []
    monkeypatch.setattr("nearward.release.export.audit", lambda table, by, *_: audited.append(by))
    other = AuditRows(ward(100, 4), ward(100, 5), "died", 1)
    sample_and_audit(FakeGenerator(ward, own), 100, rows=other)
    sample_and_audit(FakeGenerator(ward, own), 100)
    sample_and_audit(FakeGenerator(ward, None), 100, rows=other)
    assert audited[0].train is own.train
    assert audited[0].steered is own.steered
    assert audited[0].holdout is other.holdout
    assert audited[1:] == [own, other]


def test_a_copy_is_refused_with_a_holdout_that_repeats_train(tmp_path, ward):
    train = ward(600, 1)
    rows = AuditRows(train, train.sample(fraction=1, shuffle=True, seed=1), "died", 1)
    verdict = audit(train, rows, gates=LENIENT)
    with pytest.raises(ExportRefused, match=r"Inference resistance not measurable \(the holdout repeats rows of train"):
        export_table(train, tmp_path / "synth.parquet", verdict)
    assert list(tmp_path.iterdir()) == []


def test_the_stamp_has_the_privacy_budget(tmp_path, fresh):
    table, verdict = fresh
    ledger = PrivacyAccountant(3.0, 1e-6).charge("counts", 0.05)
    export_table(table, tmp_path / "synth.parquet", verdict, ledger=ledger)
    privacy = read_stamp(tmp_path / "synth.parquet")["privacy"]
    assert PrivacyAccountant.from_json(privacy["ledger"]) == ledger
    assert "does not cover" in privacy["not covered"]


def test_risks_of_a_model_trained_on_an_enriched_table_are_corrected(ward, rows):
    """Half of the events' complement dropped: the stamp's prior carries the risks back to train's share."""
    enriched = pl.concat(
        [part if event else part[: part.height // 3] for (event,), part in ward(30_000, 5).group_by("died", maintain_order=True)]
    )
    from sklearn.linear_model import LogisticRegression

    names = ["age", "creatinine", "sbp"]
    model = LogisticRegression(max_iter=500).fit(enriched.select(names).to_numpy(), enriched["died"].to_numpy())
    queries = ward(20_000, 6)
    risk = model.predict_proba(queries.select(names).to_numpy())[:, 1]
    share, train = enriched["died"].mean(), ward(30_000, 5)["died"].mean()
    back = correct_prior(risk, trained=share, deployed=train)
    assert abs(risk.mean() - queries["died"].mean()) > 0.05
    assert abs(back.mean() - queries["died"].mean()) < 0.01


def test_a_full_disk_leaves_no_file(tmp_path, fresh, monkeypatch):
    table, verdict = fresh

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        export_table(table, tmp_path / "synth.parquet", verdict)
    assert list(tmp_path.iterdir()) == []


def test_endings_and_folders_are_checked_before_the_work(tmp_path):
    def never(*_):
        raise AssertionError("sampled before the path was checked")

    for path, message in ((tmp_path / "a.xlsx", "must be a"), (tmp_path / "no" / "a.csv", "no such folder")):
        with pytest.raises(InputError, match=message):
            export_synthetic(FakeGenerator(never, None), 10, path)


def test_the_same_seed_gives_the_same_file(tmp_path, ward):
    for name in ("a.parquet", "b.parquet"):
        export_synthetic(FakeGenerator(ward, None), 100, tmp_path / name, seed=4, accept_risk=REASON)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert np.array_equal(pl.read_parquet(tmp_path / "a.parquet")["age"], ward(100, 15)["age"])


def test_columns_of_durations_leave_too(tmp_path, rows):
    """Audited and written with a stamp, in both formats."""
    length = pl.duration(hours=pl.int_range(pl.len()) % 60).alias("ventilated")
    durations = AuditRows(rows.train.with_columns(length), rows.holdout.with_columns(length), "died", 1)
    table = rows.holdout.with_columns(length)
    verdict = audit(table, durations)
    for name in ("synth.parquet", "synth.csv"):
        stamp = export_table(table, tmp_path / name, verdict, accept_risk=REASON)
        assert verify(tmp_path / name) == stamp
    assert pl.read_parquet(tmp_path / "synth.parquet").schema["ventilated"] == pl.Duration
