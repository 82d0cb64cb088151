"""RiskClassifier: its output, reproducibility, absence of leakage, and input checks."""

from __future__ import annotations

import subprocess
import sys
import warnings
from datetime import timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.metrics import average_precision_score, roc_auc_score

import nearward as nw
from nearward.datasets import read_cohort
from nearward.tabular.errors import DataWarning, InputError, MissingColumns, NearwardError, TooFewEvents

FEW = nw.EncoderConfig(steps=40)
SMALL = {"folds": 2, "backbone": None, "encoder": nw.EncoderConfig(steps=5)}  # where what is tested is not what was learned


@pytest.fixture
def new(clinic):
    return clinic[0][500:]


@pytest.fixture(scope="module")
def plain(clinic):
    """A small model of 300 rows, whose outcome is 0 or 1."""
    return nw.RiskClassifier(**SMALL).fit(clinic[0][:300], clinic[1][:300])


# ---- output ----------------------------------------------------------------------------------------------------------


def test_output_is_a_risk_inside_its_band(fitted, new):
    scored = fitted.predict_frame(new)
    assert scored.columns == ["row", "risk", "low", "high", "n_similar", "novelty", "vote"]
    assert scored.height == new.height
    assert ((scored["low"] <= scored["risk"]) & (scored["risk"] <= scored["high"])).all()
    for name in ("risk", "low", "high", "novelty", "vote"):
        assert scored[name].is_between(0, 1).all()
    np.testing.assert_allclose(fitted.predict_proba(new).sum(axis=1), 1)


def test_unseen_patients_are_ranked(fitted, clinic):
    assert roc_auc_score(clinic[1][500:], fitted.predict_proba(clinic[0][500:])[:, 1]) > 0.65


def test_the_vote_is_the_weighted_share_of_events(fitted, new):
    context = fitted.similar(new, k=None)
    share = pl.col("weight") * pl.col("outcome")
    votes = context.group_by("row", maintain_order=True).agg(share.sum().alias("vote"), pl.col("weight").sum())
    np.testing.assert_allclose(votes["weight"], 1, atol=1e-9)
    np.testing.assert_allclose(votes["vote"], fitted.predict_frame(new)["vote"], atol=1e-6)


def test_similar_patients_are_sorted_by_weight_and_have_their_own_outcomes(fitted, clinic, new):
    similar = fitted.similar(new[:5], k=4)
    assert similar.height == 20
    for _, part in similar.group_by("row"):
        assert part["weight"].is_sorted(descending=True)
    outcome = clinic[1][:500][similar["patient"].cast(pl.Int64).to_numpy()]
    np.testing.assert_array_equal(similar["outcome"], outcome)


def test_a_training_patient_is_its_own_nearest_neighbour(fitted, clinic):
    similar = fitted.similar(clinic[0][17:18], k=None)
    same = similar.filter(pl.col("patient") == "17").row(0, named=True)
    assert same["distance"] == similar["distance"].min() == pytest.approx(0, abs=1e-4)
    assert same["differs"] == ""
    assert same["rank"] <= 10  # of about 130: the shards have equal weight, and it is first in its own shard


def test_novelty_rises_with_distance(fitted, new):
    strange = new.with_columns(age=pl.lit(130.0), lactate=pl.lit(25.0), sofa=pl.lit(30.0))
    usual, odd = fitted.predict_frame(new)["novelty"], fitted.predict_frame(strange)["novelty"]
    assert usual.median() < 0.9
    assert odd.min() > 0.99


def test_summary_is_out_of_fold_and_lists_the_base_learners(fitted):
    summary = fitted.summary_
    assert summary.rows == 500
    assert str(summary.retrieval) == "AWARE encoders"
    assert {trial.embedding for trial in summary.retrieval.tried} == {"AWARE encoders", "linear metric"}
    names = {"AWARE vote", "AWARE head", "expert: sofa", "gradient boosting, random thresholds"}
    assert names <= set(summary.out_of_fold.base_learners)
    assert 0.5 < summary.out_of_fold.auroc < 1


def test_gate_shares_sum_to_one_over_the_columns(fitted, clinic):
    gate = fitted.gate()
    assert set(gate["column"]) == set(clinic[0].columns)
    assert gate["share"].sum() == pytest.approx(1)
    one, other = (dict(fitted.gate(clinic[0][i : i + 1]).iter_rows()) for i in (0, 1))
    assert sum(one.values()) == pytest.approx(1)
    assert one != other  # the encoders look at the patient


def test_another_prevalence_changes_risks_but_not_their_order(fitted, clinic, new):
    frame, died, patient = clinic
    rare = nw.RiskClassifier(random_state=3, encoder=FEW, experts=["sofa"], prevalence=0.01).fit(
        frame[:500], died[:500], groups=patient[:500]
    )
    before, after = fitted.predict_proba(new)[:, 1], rare.predict_proba(new)[:, 1]
    np.testing.assert_allclose(after, nw.correct_prior(before, died[:500].mean(), 0.01), rtol=1e-9)
    assert (after < before).all()


# ---- reproducibility -------------------------------------------------------------------------------------------------


def test_batched_shuffled_and_single_rows_agree(fitted, new):
    together = fitted.predict_frame(new).drop("row").to_numpy()
    order = np.random.default_rng(0).permutation(new.height)
    np.testing.assert_allclose(fitted.predict_frame(new[order]).drop("row").to_numpy(), together[order], atol=1e-6)
    alone = np.concatenate([fitted.predict_frame(new[i : i + 1]).drop("row").to_numpy() for i in range(40)])
    np.testing.assert_allclose(alone, together[:40], atol=1e-6)


def test_batches_that_are_scored_side_by_side_come_in_order(fitted, new, monkeypatch):
    whole, done = fitted.predict_frame(new), []
    monkeypatch.setattr("nearward.risk_model.predictor._BATCH", 30)
    in_batches = clone(fitted).set_params(n_jobs=4)
    in_batches.fitted_ = fitted.fitted_
    scored = in_batches.predict_frame(new, progress=done.append)
    assert done == [30] * 6 + [20]
    for name in whole.columns:
        np.testing.assert_allclose(scored[name], whole[name], rtol=1e-6, atol=1e-9)


def test_a_model_loaded_in_a_new_process_scores_and_saves_identically(fitted, new, tmp_path):
    fitted.save(tmp_path / "a")
    new.write_parquet(tmp_path / "new.parquet")
    code = (
        "import sys, polars as pl, nearward as nw\n"
        "folder = sys.argv[1]\n"
        "model = nw.load(folder + '/a')\n"
        "model.predict_frame(pl.read_parquet(folder + '/new.parquet')).write_parquet(folder + '/scores.parquet')\n"
        "model.similar(pl.read_parquet(folder + '/new.parquet')).write_parquet(folder + '/similar.parquet')\n"
        "model.save(folder + '/b')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=tmp_path)
    assert pl.read_parquet(tmp_path / "scores.parquet").equals(fitted.predict_frame(new))
    assert pl.read_parquet(tmp_path / "similar.parquet").equals(fitted.similar(new))
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}


def test_the_same_seed_in_another_process_gives_the_same_model(clinic, tmp_path):
    frame, died, _ = clinic
    frame[:200].with_columns(died=pl.Series(died[:200])).write_parquet(tmp_path / "cohort.parquet")
    code = (
        "import polars as pl, nearward as nw\n"
        "cohort = pl.read_parquet('cohort.parquet')\n"
        "model = nw.RiskClassifier(random_state=5, folds=2, encoder=nw.EncoderConfig(steps=20))\n"
        "model.fit(cohort.drop('died'), cohort['died']).save('b')\n"
    )
    nw.RiskClassifier(random_state=5, folds=2, encoder=nw.EncoderConfig(steps=20)).fit(frame[:200], died[:200]).save(tmp_path / "a")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}


def test_frames_of_every_kind_score_the_same(fitted, new):
    expected = fitted.predict_proba(new)
    np.testing.assert_array_equal(fitted.predict_proba(new.lazy()), expected)
    np.testing.assert_array_equal(fitted.predict_proba(new.select(reversed(new.columns))), expected)
    categorical = new.with_columns(pl.col("ward").cast(pl.Categorical), pl.col("age").cast(pl.Float64))
    np.testing.assert_array_equal(fitted.predict_proba(categorical), expected)
    holes = new.with_columns(pl.col("lactate").fill_null(float("nan")))
    np.testing.assert_array_equal(fitted.predict_proba(holes), expected)


def test_text_outcomes_and_a_positive_value(clinic, new, plain):
    frame, died, _ = clinic
    words = pl.Series(["dead" if d else "alive" for d in died[:300]])
    model = nw.RiskClassifier(positive="dead", **SMALL).fit(frame[:300], words)
    assert model.classes_.tolist() == ["alive", "dead"]
    assert model.event_ == "dead"
    assert set(model.predict(new)) <= {"alive", "dead"}
    np.testing.assert_array_equal(model.predict_proba(new), plain.predict_proba(new))


def test_classes_are_sorted_and_the_event_may_be_any_of_them(clinic, new, plain, tmp_path):
    frame, died, _ = clinic
    words = np.where(died[:300] == 1, "died", "survived")
    model = nw.RiskClassifier(positive="died", **SMALL).fit(frame[:300], words)
    model.save(tmp_path / "model")
    loaded = nw.load(tmp_path / "model")
    for same in (model, loaded, clone(loaded).fit(frame[:300], words)):
        assert (same.classes_.tolist(), same.event_, same.positive) == (["died", "survived"], "died", "died")
        np.testing.assert_array_equal(same.predict_proba(new), plain.predict_proba(new)[:, ::-1])
        assert (same.predict(new) == np.where(plain.predict(new) == 1, "died", "survived")).all()
        assert same.predict_frame(new).equals(plain.predict_frame(new))
        assert same.similar(new[:1]).equals(plain.similar(new[:1]))


def test_one_or_several_of_many_values_are_the_event(clinic, new, plain, tmp_path):
    frame, died, _ = clinic
    words = np.where(died[:300] == 1, np.where(np.arange(300) % 2, "<30", ">30"), np.where(np.arange(300) % 3, "NO", "lost"))
    with pytest.warns(DataWarning, match="is <30 or >30; rows with one of the other 2 values are without it"):
        model = nw.RiskClassifier(positive=["<30", ">30"], **SMALL).fit(frame[:300], words)
    model.save(tmp_path / "model")
    for same in (model, nw.load(tmp_path / "model")):
        assert (same.classes_.tolist(), same.event_) == ([False, True], ("<30", ">30"))
        np.testing.assert_array_equal(same.predict_proba(new), plain.predict_proba(new))
        assert same.summary_ == plain.summary_


def test_a_model_of_an_encoded_outcome_names_no_risk(clinic, new, plain, tmp_path):
    frame, died, _ = clinic
    with pytest.warns(DataWarning, match="positive='died' is no value of the outcome"):
        model = nw.RiskClassifier(positive="died", **SMALL).fit(frame[:300], 1 - died[:300])
    np.testing.assert_array_equal(model.predict_proba(new), plain.predict_proba(new)[:, ::-1])
    for refused in (model.predict_frame, model.similar, lambda _: model.save(tmp_path / "model")):
        with pytest.raises(InputError, match="not known which of them is the event"):
            refused(new)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_row_within_the_schema_gets_a_finite_risk(fitted, data):
    number = st.none() | st.floats(allow_infinity=False, allow_nan=True)
    row = {
        "age": data.draw(number),
        "lactate": data.draw(number),
        "ward": data.draw(st.none() | st.text(max_size=6)),
        "diabetic": data.draw(st.none() | st.booleans()),
        "sofa": data.draw(number),
    }
    frame = pl.DataFrame(
        [row], schema={"age": pl.Float64, "lactate": pl.Float64, "ward": pl.String, "diabetic": pl.Boolean, "sofa": pl.Float64}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        scored = fitted.predict_frame(frame)
    assert np.isfinite(scored.to_numpy()).all()
    assert 0 <= scored["low"][0] <= scored["risk"][0] <= scored["high"][0] <= 1


# ---- no leakage ------------------------------------------------------------------------------------------------------


def test_noise_is_not_ranked(clinic):
    frame, _, _ = clinic
    rng = np.random.default_rng(1)
    noise = (rng.random(500) < 0.15).astype(int)
    model = nw.RiskClassifier(encoder=FEW).fit(frame[:500], noise)
    out_of_fold = model.summary_.out_of_fold
    assert abs(out_of_fold.auroc - 0.5) < 0.12
    for name, figures in out_of_fold.base_learners.items():
        assert figures.auprc < 0.30, name


def test_visits_of_one_patient_do_not_leak(clinic):
    """A patient's rows are copies, and its outcome is noise: only a split through patients could rank them."""
    rng = np.random.default_rng(2)
    patient = np.repeat(np.arange(150), 4)
    frame = pl.DataFrame({f"x{j}": rng.normal(size=150)[patient] for j in range(5)})
    outcome = (rng.random(150) < 0.2).astype(int)[patient]
    model = nw.RiskClassifier(encoder=FEW).fit(frame, outcome, groups=patient)
    members = model.summary_.out_of_fold.base_learners
    assert max(figures.auprc for figures in members.values()) < 0.45
    ungrouped = nw.RiskClassifier(encoder=FEW).fit(frame, outcome)
    assert ungrouped.summary_.out_of_fold.auprc > 0.9


def test_a_group_column_in_the_schema_equals_groups(clinic):
    frame, died, patient = clinic
    visits = frame[:200].with_columns(patient=pl.Series(patient[:200]))
    schema = nw.Schema.infer(visits).with_roles(group="patient")
    declared = nw.RiskClassifier(**SMALL, schema=schema).fit(visits, died[:200])
    handed = nw.RiskClassifier(**SMALL).fit(frame[:200], died[:200], groups=patient[:200])
    assert declared.summary_ == handed.summary_
    for groups in (visits["patient"], visits["patient"].to_numpy()):
        with pytest.warns(DataWarning, match="identify the patients are not used as features: \\['patient'\\]"):
            in_the_frame = nw.RiskClassifier(**SMALL).fit(visits, died[:200], groups=groups)
        assert in_the_frame.summary_ == handed.summary_
    assert declared.summary_.patients == len(np.unique(patient[:200])) < 200


# ---- input checks ----------------------------------------------------------------------------------------------------


def test_fewer_than_ten_events_are_refused(clinic):
    frame, _, _ = clinic
    with pytest.raises(TooFewEvents, match="refused: 9 events"):
        nw.RiskClassifier().fit(frame[:200], np.arange(200) < 9)


@pytest.mark.parametrize("bad", [None, "table", 3, [[1, 2], [3]], pl.Series([1, 2]), np.zeros(3), np.zeros((0, 3)), np.zeros((3, 0))])
def test_inputs_that_are_not_tables_are_refused(bad):
    with pytest.raises((NearwardError, ValueError)):
        nw.RiskClassifier().fit(bad, [0, 1, 1])


def secret(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(age=pl.Series(["Zanzibar"] + ["61.5"] * (frame.height - 1)))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.drop("lactate"), "lactate"),
        (lambda f: f.rename({"lactate": "lactat"}), "did you mean 'lactat'"),
        (secret, "'age' must be a number, but 1 of 200"),
        (lambda f: f.with_columns(age=pl.Series(["61,5"] * f.height)), "decimal comma"),
        (lambda f: f.with_columns(age=pl.lit(float("inf"))), "infinite"),
        (lambda f: f.with_columns(age=pl.lit([1.0])), "List"),
        (lambda f: f.with_columns(age=pl.lit(timedelta(days=1))), "Duration"),
        (lambda f: f.with_columns(age=pl.lit(b"61")), "Binary"),
        (lambda f: f[:0], "0 rows"),
    ],
)
def test_unusable_new_rows_are_refused(fitted, new, spoil, message):
    with pytest.raises(InputError, match=message) as caught:
        fitted.predict_frame(spoil(new))
    assert "Zanzibar" not in str(caught.value)


def test_decimals_and_missing_columns_of_values_are_scored(fitted, new):
    expected = fitted.predict_frame(new.with_columns(age=pl.lit(61.5)))
    decimal = new.with_columns(age=pl.Series([Decimal("61.5")] * new.height))
    assert fitted.predict_frame(decimal).equals(expected)
    nothing = fitted.predict_frame(new.with_columns(age=pl.lit(None)))
    assert nothing.equals(fitted.predict_frame(new.with_columns(age=pl.lit(float("nan")))))
    huge = fitted.predict_frame(new.with_columns(age=pl.lit(61.5)).with_columns(sofa=pl.lit(4.0)))
    assert np.isfinite(huge.to_numpy()).all()


def test_the_number_of_similar_patients_must_be_whole(fitted, new):
    for k in (0, "3", 2.5):
        with pytest.raises(InputError, match="k must be a whole number from 1, got k="):
            fitted.similar(new[:1], k=k)


def test_anomalies_in_new_rows_are_warned_of(fitted, new):
    with pytest.warns(DataWarning, match="not fitted on are ignored: \\['charges'\\]"):
        fitted.predict_frame(new.with_columns(charges=pl.lit(1)))
    with pytest.warns(DataWarning, match="slip of units\\? 'lactate' in"):
        fitted.predict_frame(new.with_columns(pl.col("lactate") * 1e5))
    with pytest.warns(DataWarning, match="no training patient had: 'ward' in 200") as caught:
        fitted.predict_frame(new.with_columns(ward=pl.lit("Zanzibar")))
    assert not any("Zanzibar" in str(warning.message) for warning in caught)


def test_a_feature_that_equals_the_outcome_is_named(clinic):
    frame, died, _ = clinic
    spoiled = frame[:200].with_columns(discharged=pl.Series(["no" if d else "yes" for d in died[:200]]))
    with pytest.warns(DataWarning, match="equal the outcome: \\['discharged'\\]") as caught:
        nw.RiskClassifier(**SMALL).fit(spoiled, died[:200])
    assert next(warning.filename for warning in caught if "discharged" in str(warning.message)) == __file__  # the caller of fit


def test_repeated_ids_are_refused(clinic):
    frame, died, _ = clinic
    schema = nw.Schema.infer(frame[:200].with_columns(visit=pl.lit(1))).with_roles(id=["visit"])
    with pytest.raises(InputError, match="'visit' repeats 199 times in 200 rows"):
        nw.RiskClassifier(schema=schema).fit(frame[:200].with_columns(visit=pl.lit(1)), died[:200])


def test_a_patient_without_any_data_is_novel_and_warned_of(fitted, new):
    nothing = new[:3].with_columns(age=pl.lit(None), ward=pl.lit(None), diabetic=pl.lit(None), sofa=pl.lit(None))
    with pytest.warns(DataWarning, match="missing, though no training patient missed it.*'age' in 3 rows"):
        scored = fitted.predict_frame(nothing)
    assert (scored["novelty"] > fitted.predict_frame(new[:3])["novelty"]).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"random_state": "0"},
        {"random_state": -1},
        {"n_jobs": 0},
        {"folds": 1},
        {"prevalence": 1.5},
        {"experts": "sofa"},
        {"experts": None},
        {"folds": 2.5},
        {"effort": "thorogh"},
        {"effort": 3},
    ],
)
def test_arguments_are_checked_before_the_fit(clinic, wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} must"):
        nw.RiskClassifier(**wrong).fit(clinic[0], clinic[1])


def test_an_id_may_have_the_name_of_an_output(clinic, tmp_path):
    frame, died, _ = clinic
    named = frame[:200].with_columns(patient=pl.Series([f"p{i}" for i in range(200)]))
    schema = nw.Schema.infer(named.with_columns(patient=pl.int_range(200))).with_roles(id="patient")
    model = nw.RiskClassifier(**SMALL, schema=schema, random_state=np.int64(1)).fit(named, died[:200])
    similar = model.similar(named[:2], k=2)
    assert similar["row_id"].to_list() == ["p0", "p0", "p1", "p1"]
    assert set(similar["patient"]) <= set(named["patient"])
    model.save(tmp_path / "m")
    assert nw.load(tmp_path / "m").predict_frame(named).equals(model.predict_frame(named))


def test_a_feature_that_separates_gives_no_certainty(clinic):
    frame, _, _ = clinic
    events = np.arange(200) < 12
    near = frame[:200].with_columns(marker=pl.Series(events * 1.0 + np.random.default_rng(0).normal(0, 0.01, 200)))
    risk = nw.RiskClassifier(encoder=FEW).fit(near, events).predict_proba(near)[:, 1]
    assert risk[events].min() > 0.5 > risk[~events].max()
    assert risk.min() > 1e-5
    assert risk.max() < 1 - 1e-3


def test_expert_columns_must_exist_and_be_numbers(clinic):
    frame, died, _ = clinic
    with pytest.raises(MissingColumns, match="did you mean 'sofa'"):
        nw.RiskClassifier(experts=["sofaa"]).fit(frame, died)
    with pytest.raises(InputError, match="'ward' is text"):
        nw.RiskClassifier(experts=["ward"]).fit(frame, died)


# ---- on real patients ------------------------------------------------------------------------------------------------


@pytest.mark.cohort
def test_support2_beats_its_prevalence_and_is_calibrated(cohort_folder):
    cohort = read_cohort(cohort_folder / "support2.parquet")
    train, test = np.arange(0, 3000), np.arange(3000, 9105)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        model = nw.RiskClassifier(random_state=0, encoder=nw.EncoderConfig(steps=150)).fit(cohort.features[train], cohort.outcome[train])
    risk = model.predict_proba(cohort.features[test])[:, 1]
    outcome = cohort.outcome[test]
    assert average_precision_score(outcome, risk) > 0.55
    assert abs(risk.mean() - outcome.mean()) < 0.02


def test_seed_is_another_name_of_random_state(clinic, tmp_path) -> None:
    frame, died, _ = clinic
    by_seed, by_random_state, other = (
        nw.RiskClassifier(**SMALL, **state).fit(frame[:320], died[:320]) for state in ({"seed": 3}, {"random_state": 3}, {})
    )
    assert np.array_equal(by_seed.predict_proba(frame), by_random_state.predict_proba(frame))
    assert not np.array_equal(by_seed.predict_proba(frame), other.predict_proba(frame))
    by_seed.save(tmp_path / "m")
    assert nw.load(tmp_path / "m").random_state == 3


def test_columns_with_names_of_the_models_own_are_refused(clinic) -> None:
    for name in ("(id)", "(outcome)", "(base rate)"):
        with pytest.raises(InputError, match=rf"names that nearward gives to columns of its own: \['\({name[1:-1]}\)'\]\. Rename them"):
            nw.RiskClassifier(**SMALL).fit(clinic[0].rename({"age": name}), clinic[1])
