"""The synthesizer: dtypes come back, conditions and rules hold in every row, the same seed gives the same rows, no row is a patient's."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nearward.synth import synthesizer
from nearward.synth.generator import FittedGenerator
from nearward.synth.inputs.splits import split_by_role
from nearward.synth.persistence import RULES_FILE
from nearward.synth.policy.training import TrainConfig
from nearward.synth.synthesizer import Synthesizer
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import ArtifactError, DataWarning, InputError, MissingColumns, NearwardError, RuleError, SharedPatients
from nearward.tabular.persistence.artifact import MANIFEST, _serialize
from nearward.tabular.rules.kinds import Order, Range, RangeWhere
from nearward.tabular.rules.mining import mine
from nearward.tabular.rules.rules import Rules
from nearward.tabular.rules.yaml_io import read_rules, write_rules


def hospital(n: int, seed: int) -> pl.DataFrame:
    """Visits with every kind of column: whole numbers, decimals, categories, dates, flags, missing values, a rare outcome."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 95, n)
    dbp = np.round(rng.normal(75, 10, n), 1)
    died = rng.random(n) < 1 / (1 + np.exp(-(age - 95) / 12))
    lactate = np.round(np.exp(rng.normal(0.3 + 0.8 * died, 0.4)), 2)
    return pl.DataFrame(
        {
            "patient": [f"p{i // 2}" for i in range(n)],
            "age": pl.Series(age, dtype=pl.Int16),
            "dbp": dbp,
            "sbp": np.round(dbp + rng.gamma(4, 10, n), 1),
            "lactate": [None if missing else x for missing, x in zip(rng.random(n) < 0.3, lactate, strict=True)],
            "ward": pl.Series(rng.choice(["ICU", "medical", "surgical"], n, p=[0.2, 0.5, 0.3]), dtype=pl.Categorical),
            "admitted": [date(2020, 1, 1) + timedelta(days=int(d)) for d in rng.integers(0, 700, n)],
            "diabetic": rng.random(n) < 0.3,
            "died": pl.Series(died.astype(int), dtype=pl.Int8),
        }
    )


@pytest.fixture(scope="module")
def train() -> pl.DataFrame:
    return hospital(1600, 0)


@pytest.fixture(scope="module")
def fitted(train) -> Synthesizer:
    return Synthesizer(seed=3).fit(train, outcome="died", groups="patient")


def test_columns_dtypes_grids_and_missing_values_come_back(train, fitted) -> None:
    synthetic = fitted.sample(2000)
    assert synthetic.schema == train.schema
    assert synthetic["dbp"].drop_nulls().round(1).equals(synthetic["dbp"].drop_nulls())
    assert synthetic["lactate"].is_null().mean() == pytest.approx(train["lactate"].is_null().mean(), abs=0.05)
    assert synthetic["age"].is_between(train["age"].min(), train["age"].max()).all()
    assert synthetic["patient"].n_unique() == 2000
    assert not set(synthetic["patient"]) & set(train["patient"])


def test_the_rare_outcome_keeps_its_share_and_its_covariates(train, fitted) -> None:
    synthetic = fitted.sample(6000)
    share = train["died"].mean()
    assert synthetic["died"].mean() == pytest.approx(share, abs=4 * (share * (1 - share) * (1 / 1120 + 1 / 6000)) ** 0.5)
    for frame in (train, synthetic):  # patients who die are older and have more lactate
        dead, alive = (frame.filter(pl.col("died") == y) for y in (1, 0))
        assert dead["age"].mean() > alive["age"].mean() + 8
        assert dead["lactate"].mean() > 1.5 * alive["lactate"].mean()
    outcomes = fitted.summary_["outcomes"]
    assert outcomes["table"] == outcomes["tokens"]  # tokens have lost no outcome


def test_a_declared_target_is_met_and_changes_nothing_else(train, fitted, tmp_path) -> None:
    half = Synthesizer(seed=3, target=0.5).fit(train, outcome="died", groups="patient")
    half.save(tmp_path / "g")
    synthetic = Synthesizer.load(tmp_path / "g").sample(4000)
    assert synthetic.equals(half.sample(4000))
    assert synthetic["died"].mean() == pytest.approx(0.5, abs=4 * 0.5 / 4000**0.5)
    dead, conditioned = synthetic.filter(pl.col("died") == 1), fitted.sample(2000, where={"died": 1})
    assert dead["age"].mean() == pytest.approx(conditioned["age"].mean(), abs=4 * conditioned["age"].std() * (2 / 2000) ** 0.5)
    assert half.sample(50, where={"died": 0})["died"].sum() == 0  # a condition comes before a target
    with pytest.raises(InputError, match="between 0 and 1"):
        Synthesizer(target=1.0)
    with pytest.raises(InputError, match="cannot be combined"):
        Synthesizer(target=0.5, epsilon=1.0)


def test_values_of_no_training_row_are_never_generated(train, fitted) -> None:
    synthetic = fitted.sample(5000)
    complete = [name for name in train.columns if not train[name].null_count()]
    assert not any(synthetic[name].null_count() for name in complete)
    assert set(synthetic["ward"].cast(pl.String)) == set(train["ward"].cast(pl.String))


def test_conditions_hold_in_every_row(fitted) -> None:
    synthetic = fitted.sample(300, where={"died": 1, "ward": "ICU", "lactate": None})
    assert synthetic.height == 300
    assert synthetic["died"].unique().to_list() == [1]
    assert synthetic["ward"].cast(pl.String).unique().to_list() == ["ICU"]
    assert fitted.sample(50, where={"age": 80})["age"].unique().to_list() == [80]
    assert synthetic["lactate"].null_count() == 300
    assert synthetic["sbp"].n_unique() > 50


def test_the_same_seed_gives_the_same_rows_and_another_gives_others(train, fitted) -> None:
    assert fitted.sample(50, seed=1).equals(fitted.sample(50, seed=1))
    assert not fitted.sample(50, seed=1).equals(fitted.sample(50, seed=2))


@pytest.mark.slow
def test_fitting_again_gives_the_same_rows(train, fitted) -> None:
    assert Synthesizer(seed=3).fit(train, outcome="died", groups="patient").sample(50).equals(fitted.sample(50))


def test_the_outcome_is_sampled_again_unless_it_is_a_condition(fitted) -> None:
    assert fitted._generator.outcome_model is not None
    without = copy.copy(fitted)
    without._generator = replace(fitted._generator, outcome_model=None)
    conditions = {"died": 1, "ward": "ICU"}
    assert fitted.sample(80, where=conditions).equals(without.sample(80, where=conditions))
    with_model, plain = (model.sample(3000, seed=4) for model in (fitted, without))
    assert with_model.drop("died").equals(plain.drop("died"))  # the rest of each row is unchanged
    assert 0.02 < (with_model["died"] != plain["died"]).mean() < 0.4


def test_no_row_of_train_is_repeated_more_than_holdout_is(train, fitted) -> None:
    body = ["age", "dbp", "sbp", "lactate", "ward", "admitted"]
    synthetic = fitted.sample(3000).select(body)
    assert synthetic.join(train.select(body), on=body, how="semi", nulls_equal=True).height == 0


def test_mined_rules_hold_in_every_row(fitted) -> None:
    assert any(str(rule) == "dbp is at most sbp" for rule in fitted.rules)
    synthetic = fitted.sample(4000, seed=9)
    assert not fitted.rules.violations(synthetic).any()
    assert (synthetic["dbp"] <= synthetic["sbp"]).all()


def test_edited_rules_hold_once_loaded(fitted, tmp_path) -> None:
    fitted.save(tmp_path / "g")
    path = tmp_path / "g" / RULES_FILE
    assert len(read_rules(path)) == len(fitted.rules)
    write_rules(Rules((Range("age", 40, 60), Order("dbp", "sbp"))), path)
    synthetic = Synthesizer.load(tmp_path / "g").sample(200)
    assert synthetic["age"].is_between(40, 60).all()
    write_rules(Rules((Range("age", 200, 300),)), path)
    with pytest.raises(RuleError, match="age"):
        Synthesizer.load(tmp_path / "g").sample(10)
    write_rules(Rules((Range("agee", 40, 60),)), path)
    with pytest.raises(RuleError, match="agee"):
        Synthesizer.load(tmp_path / "g")


def test_rules_that_no_row_satisfies_are_named_after_few_attempts(fitted, tmp_path, monkeypatch) -> None:
    fitted.save(tmp_path / "g")
    write_rules(Rules((Range("age", 40, 60),)), tmp_path / "g" / RULES_FILE)
    model = Synthesizer.load(tmp_path / "g")
    sizes = []
    sample_once = FittedGenerator._sample_once
    monkeypatch.setattr(FittedGenerator, "_sample_once", lambda self, n, *rest: sizes.append(n) or sample_once(self, n, *rest))
    with pytest.raises(RuleError, match="age is from 40 to 60"):
        model.sample(10_000, where={"age": 80})
    assert sizes == [10_000]


def test_saved_and_loaded_is_the_same(fitted, tmp_path) -> None:
    fitted.save(tmp_path / "g")
    again = Synthesizer.load(tmp_path / "g")
    assert again.sample(100).equals(fitted.sample(100))
    assert again.summary_ == fitted.summary_
    assert again.audit_rows.train.equals(fitted.audit_rows.train)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "g").iterdir() if path.name != RULES_FILE} == {0o600}
    tensors = next((tmp_path / "g").glob("*.safetensors"))
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match="corrupt"):
        Synthesizer.load(tmp_path / "g")


def every_part(value, depth: int = 6):
    """Yield each (container, key) of a manifest down to a depth."""
    if depth and isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value[:2]):
            yield value, key
            yield from every_part(item, depth - 1)


def test_a_changed_manifest_leads_to_a_generator_or_an_error_of_our_own(fitted, tmp_path) -> None:
    """Parts of the manifest are removed or replaced, with a valid digest, as somebody with evil intent would."""
    fitted.save(tmp_path / "g")
    manifest = tmp_path / "g" / MANIFEST
    raw, rng, refused = manifest.read_text(), np.random.default_rng(0), 0
    for _ in range(150):
        body = json.loads(raw)
        del body["sha256"]
        parts = list(every_part(body))
        container, key = parts[rng.integers(len(parts))]
        value = ["gone", None, "text", -7, 10**9, [], {}][rng.integers(7)]
        if value == "gone":
            del container[key]
        else:
            container[key] = value
        manifest.write_bytes(_serialize(body))
        try:
            Synthesizer.load(tmp_path / "g")
        except NearwardError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("text", ["[" * 20_000, "format: 2020-13-45", "\x00"])
def test_a_hostile_rules_file_is_a_rule_error(fitted, tmp_path, text) -> None:
    fitted.save(tmp_path / "g")
    (tmp_path / "g" / RULES_FILE).write_text(text)
    with pytest.raises(RuleError):
        Synthesizer.load(tmp_path / "g")


def test_a_generator_is_not_loaded_as_a_risk_model(fitted, tmp_path) -> None:
    from nearward.loading import load

    fitted.save(tmp_path / "g")
    with pytest.raises(ArtifactError, match="not a risk model but a synthesizer"):
        load(tmp_path / "g")


def test_every_patient_is_a_member_or_a_non_member_of_the_audit(train, fitted, tmp_path) -> None:
    """Patients used for discriminators, early stopping or confirmation of rules are members: the generator depends on their rows."""
    fitted.save(tmp_path / "g")
    for rows in (fitted.audit_rows, Synthesizer.load(tmp_path / "g").audit_rows):
        parts = [set(part["patient"]) for part in (rows.train, rows.steered, rows.holdout)]
        assert set().union(*parts) == set(train["patient"])
        assert sum(map(len, parts)) == train["patient"].n_unique()
        tuning = fitted.summary_["rows"]["discriminator"] + fitted.summary_["rows"]["rules"]
        assert rows.steered.height == tuning > 0


def test_patients_of_the_discriminators_are_members(train) -> None:
    few = train[:700]
    rows = Synthesizer(seed=1, optimiser="tilt").fit(few, outcome="died", groups="patient").audit_rows
    patient_ids = few["patient"].rank("dense").to_numpy().astype(np.int64) - 1
    part = split_by_role((few["died"] == 1).to_numpy().astype(np.int64), patient_ids, 1)
    discriminator_patients = set(few["patient"].gather(part["discriminator"]))
    assert discriminator_patients
    assert discriminator_patients <= set(rows.steered["patient"])


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"died": 7}, "out of range"),
        ({"ward": "moon"}, "no such category"),
        ({"age": 300}, "out of range"),
        ({"age": "old"}, "type str"),
        ({"age": 60.5}, "whole numbers"),
        ({"diabetic": "perhaps"}, "type str"),
    ],
)
def test_unknown_values_in_conditions_are_errors(fitted, where, words) -> None:
    with pytest.raises(InputError, match=words):
        fitted.sample(5, where=where)


def test_unknown_columns_and_conditions_that_no_training_row_meets_are_errors(train, fitted) -> None:
    with pytest.raises(MissingColumns, match="died"):
        fitted.sample(5, where={"dieed": 1})
    tokenizer = fitted._generator.tokenizer
    age, lactate = (tokenizer.column_tokenizers[tokenizer.column_index[name]] for name in ("age", "lactate"))
    with pytest.raises(InputError, match="no training row"):
        fitted.sample(5, where={"age": int(age.low[1]), "died": 1, "lactate": float(lactate.high[-1]), "ward": "surgical"})
    with pytest.raises(InputError, match="at least 1"):
        fitted.sample(0)


def test_unsuitable_tables_are_errors_or_warned_of(train) -> None:
    with pytest.raises(InputError, match="one of"):
        Synthesizer(optimiser="adam")
    with pytest.raises(InputError, match="at least 200"):
        Synthesizer().fit(train[:150], outcome="died")
    with pytest.raises(MissingColumns, match="died"):
        Synthesizer().fit(train, outcome="dead")
    with pytest.raises(InputError, match="missing values"):
        Synthesizer().fit(train, outcome="lactate")
    with pytest.raises(InputError, match="one class"):
        Synthesizer().fit(train.with_columns(died=pl.lit(0)), outcome="died")
    few = pl.concat([train.filter(pl.col("died") == 1)[:12], train.filter(pl.col("died") == 0)[:300]])
    with pytest.warns(DataWarning, match="fewer than 20"):
        Synthesizer().fit(few, outcome="died", groups="patient")


def test_errors_are_raised_before_the_fit(train) -> None:
    fit = Synthesizer(seed=3).fit
    with pytest.raises(RuleError, match=r"\['aeg'\]"):
        fit(train, outcome="died", rules=Rules((Range("aeg", 0, 120),)))
    with pytest.raises(InputError, match="times of day"):
        fit(train.with_columns(at=pl.lit(time(8, 30))), outcome="died")
    with pytest.raises(InputError, match=r"has 1 missing values .* in 1600 rows"):
        fit(train.with_columns(pl.when(pl.int_range(1600) > 0).then("patient")), outcome="died", groups="patient")
    with pytest.raises(SharedPatients):
        fit(train[:1200], outcome="died", groups="patient", holdout=train[1199:])


@pytest.mark.parametrize("dtype", [pl.Int8, pl.Int64, pl.Enum, pl.Date])
def test_patient_ids_of_any_dtype_become_ids_of_no_real_patient(fitted, dtype) -> None:
    synthetic = fitted.sample(300)
    other = copy.copy(fitted)
    rows = fitted.audit_rows
    ids = pl.lit(None, pl.Enum(["p0", "p1"]) if dtype is pl.Enum else dtype).alias("patient")
    other._generator = replace(fitted._generator, audit_rows=replace(rows, train=rows.train.with_columns(ids)))
    named = other.sample(300)["patient"]
    assert named.n_unique() == 300
    assert named.dtype == (pl.Int64 if dtype.is_integer() else pl.String)
    assert dtype is not pl.Int64 or named.min() > 10**15
    assert other.sample(300).drop("patient").equals(synthetic.drop("patient"))


def test_the_positive_value_may_be_numpys(train, tmp_path) -> None:
    model = Synthesizer(seed=3, epsilon=8.0).fit(
        train.select("patient", "ward", "diabetic", "died"), outcome="died", groups="patient", positive=np.int64(1)
    )
    model.save(tmp_path / "g")
    assert Synthesizer.load(tmp_path / "g").positive == 1


def test_which_value_is_the_event_changes_neither_patients_roles_nor_rules() -> None:
    table = hospital(800, 2).with_columns(died=pl.col("died").replace_strict({0: "survived", 1: "died"}, return_dtype=pl.String))
    common, rare = (Synthesizer(seed=0, target=0.4).fit(table, "died", "patient", positive=event) for event in (None, "died"))
    assert (common.positive, rare.positive) == ("survived", "died")
    assert common.audit_rows.train.equals(rare.audit_rows.train)
    assert common.rules == rare.rules
    for model in (common, rare):
        assert (model.sample(1500)["died"] == model.positive).mean() == pytest.approx(0.4, abs=0.05)
        assert model.sample(20, where={"died": model.positive})["died"].unique().to_list() == [model.positive]


def test_constrained_decoding_leaves_no_row_to_be_sampled_again(fitted) -> None:
    synthetic, redrawn = fitted.sample_with_redrawn(500)
    assert synthetic.equals(fitted.sample(500))
    assert redrawn == 0
    assert fitted.about["rows"] == fitted.summary_["rows"]


def stays(n: int, seed: int) -> pl.DataFrame:
    """Admissions with dates that are ordered, scores that are sums, an index that is a ratio, flags, and columns that depend on values."""
    rng = np.random.default_rng(seed)
    female, age = rng.random(n) < 0.5, rng.integers(18, 90, n)
    day, stay = rng.integers(0, 700, n), np.maximum(1, rng.gamma(1.5, 4, n).round()).astype(int)
    died = rng.random(n) < 1 / (1 + np.exp(-(age - 95) / 12))
    kg, cm, ward = rng.normal(80, 15, n).round(1), rng.normal(170, 10, n).round(), rng.integers(0, 3, n)
    items = {name: rng.integers(1, most, n) for name, most in (("eye", 5), ("verbal", 6), ("motor", 7))}
    start = datetime(2021, 1, 1)
    return pl.DataFrame(
        {
            "sex": np.where(female, "f", "m"),
            "age": age,
            "pregnant": np.where(female & (age < 46) & (rng.random(n) < 0.6), "yes", "no"),
            "births": [int(k) if x else None for k, x in zip(rng.poisson(1, n), female, strict=True)],
            "admitted": [start + timedelta(days=int(d), minutes=int(m)) for d, m in zip(day, rng.integers(0, 1440, n), strict=True)],
            "discharged": [(start + timedelta(days=int(d + s + 1))).date() for d, s in zip(day, stay, strict=True)],
            "kg": pl.Series(kg, dtype=pl.Float32),
            "cm": cm,
            "bmi": (kg / (cm / 100) ** 2).round(1),
            **items,
            "gcs": sum(items.values()),
            **{f"ward_{w}": ward == w for w in range(3)},
            "drg": rng.choice([101, 205, 333, 478, 999], n),
            "ventilated": [timedelta(hours=int(h)) for h in rng.gamma(2, 20, n)],
            "died": died.astype(int),
        }
    )


@pytest.fixture(scope="module")
def of_stays() -> Synthesizer:
    schema = Schema.infer(stays(300, 0)[["drg", "sex"]])
    codes = Schema((replace(schema["drg"], kind="category"), schema["sex"]))
    with pytest.MonkeyPatch.context() as patch:  # a short training: rules hold in every row however little was learned
        patch.setattr(synthesizer, "TrainConfig", partial(TrainConfig, token_budget=400_000))
        return Synthesizer(seed=0).fit(stays(2200, 0), outcome="died", positive=1, schema=codes)


def test_dates_scores_ratios_flags_and_conditions_are_mined_and_kept(of_stays) -> None:
    mined = {str(rule) for rule in of_stays.rules.enforced}
    expected = {
        "admitted is at most discharged",
        "gcs = eye + verbal + motor",
        "bmi = 10000 × kg × cm^-2",
        "exactly one of ward_0, ward_1, ward_2 is 1",
        "where sex is m, births is missing",
        "where sex is m, pregnant is no",
    }
    assert expected <= mined
    synthetic, redrawn = of_stays.sample_with_redrawn(2000)
    assert redrawn < 0.05
    assert not of_stays.rules.enforced.violations(synthetic).any()
    assert (synthetic["admitted"] <= synthetic["discharged"]).all()
    assert (synthetic["gcs"] == synthetic["eye"] + synthetic["verbal"] + synthetic["motor"]).all()
    assert ((synthetic["bmi"] - synthetic["kg"].cast(pl.Float64) / (synthetic["cm"] / 100) ** 2).abs() < 0.06).all()
    assert (synthetic.select(pl.sum_horizontal("ward_0", "ward_1", "ward_2")).to_series() == 1).all()


def test_a_rule_that_somebody_wrote_holds_in_every_row(of_stays, tmp_path) -> None:
    of_stays.save(tmp_path / "g")
    bound = RangeWhere("pregnant", "yes", "age", 18, 45)
    assert bound.check(of_stays.sample(3000))[1].any()  # too few are pregnant to mine it
    write_rules(of_stays.rules + Rules((bound,)), tmp_path / "g" / RULES_FILE)
    synthetic, redrawn = Synthesizer.load(tmp_path / "g").sample_with_redrawn(3000)
    applies, violates = bound.check(synthetic)
    assert applies.any()
    assert not violates.any()
    assert redrawn < 0.05


def test_stays_are_as_long_as_they_were(of_stays) -> None:
    """Bins of a date are a week wide: two dates alone would leave a stay of any length."""
    days = [
        (frame["discharged"].cast(pl.Datetime("us")) - frame["admitted"]).dt.total_hours() / 24
        for frame in (of_stays.audit_rows.train, of_stays.sample(3000))
    ]
    for quantile in (0.1, 0.5, 0.9):
        assert days[1].quantile(quantile) == pytest.approx(days[0].quantile(quantile), rel=0.2)
    assert days[1].max() <= days[0].max()


def test_codes_durations_and_single_precision_come_back(of_stays) -> None:
    train, synthetic = of_stays.audit_rows.train, of_stays.sample(2000)
    assert synthetic.schema == train.schema
    assert set(synthetic["drg"].drop_nulls()) <= set(train["drg"])
    assert synthetic["kg"].cast(pl.String).str.len_chars().max() <= len("123.4")
    conditions = {"admitted": str(train["admitted"][0])[:10], "births": None}
    dated = of_stays.sample(20, where=conditions)
    assert dated["admitted"].unique().to_list() == [datetime.fromisoformat(conditions["admitted"])]
    assert (dated["discharged"].cast(pl.Datetime("us")) >= dated["admitted"]).all()
    assert dated["births"].null_count() == 20


def test_the_rules_of_the_evaluation_are_accepted(tmp_path) -> None:
    """Mined on numbers of days, as the card has them, written, read, and enforced on dates."""
    table = stays(1500, 1).select("admitted", "discharged", "age", "died")
    days = table.with_columns(pl.col("admitted", "discharged").cast(pl.Datetime("us")).to_physical() / 86_400_000_000)
    write_rules(mine(days, seed=0), tmp_path / "rules.yaml")
    rules = read_rules(tmp_path / "rules.yaml")
    assert Order("admitted", "discharged") in rules
    synthetic = Synthesizer(seed=0).fit(table, outcome="died", positive=1, rules=rules).sample(500)
    assert not rules.violations(synthetic).any()


def test_ids_of_synthetic_patients_are_no_ids_of_synthetic_training_rows(fitted) -> None:
    rows = fitted.audit_rows
    number = pl.int_range(1, rows.train.height + 1, eager=True)
    for ids in ("synthetic-" + number.cast(pl.String), 10**15 + number):
        other = copy.copy(fitted)
        other._generator = replace(fitted._generator, audit_rows=replace(rows, train=rows.train.with_columns(ids.alias("patient"))))
        assert not set(other.sample(400)["patient"]) & set(ids)


@pytest.mark.slow
@pytest.mark.cohort
def test_a_real_cohort_keeps_its_outcome_and_its_dependence_on_the_other_columns(cohort_folder: Path) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    frame = pl.read_parquet(cohort_folder / "heart_failure.parquet")
    outcome = "DEATH_EVENT" if "DEATH_EVENT" in frame.columns else frame.columns[-1]
    model = Synthesizer(seed=0).fit(frame, outcome=outcome)
    synthetic, train = model.sample(2000), model.audit_rows.train
    share = train[outcome].mean()
    assert synthetic[outcome].mean() == pytest.approx(share, abs=4 * (share * (1 - share) / train.height) ** 0.5)
    x, y = synthetic.drop(outcome).to_numpy(), synthetic[outcome].to_numpy()
    holdout = model.audit_rows.holdout
    classifier = HistGradientBoostingClassifier(max_iter=60).fit(x, y)
    assert roc_auc_score(holdout[outcome], classifier.predict_proba(holdout.drop(outcome).to_numpy())[:, 1]) > 0.6


def test_audited_tables_are_counted_in_the_folder_across_loads(fitted, tmp_path: Path) -> None:
    fitted.save(tmp_path / "generator")
    Synthesizer.load(tmp_path / "generator").record_audit("a", 1, 100, passed=False)
    again = Synthesizer.load(tmp_path / "generator")
    assert again.record_audit("b", np.int64(2), 100, passed=np.bool_(1)) == {"audited": 2, "passed": 1}
    again.save(tmp_path / "copy")  # the count goes with the generator
    assert Synthesizer.load(tmp_path / "copy").record_audit("b", 2, 100, passed=True) == {"audited": 2, "passed": 1}
