"""Golden numbers: what small seeded tables give. Moves and renames must not change them.

Write the numbers again with: NEARWARD_GOLDEN=write .venv/bin/pytest tests/golden (in one process, without -n).
This is legitimate only where a change of results is intended; say so in the commit.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import nearward as nw

Golden = Callable[..., None]
Table = tuple[pl.DataFrame, np.ndarray, np.ndarray]

# ---- the only places that read what is no stable method; adapt them here -----------------------------------------------


NAMES = {  # of the summary: today's -> the golden file's
    "kernel regression": "kernel, plain",
    "kernel regression, whitened": "kernel, whitened",
    "logistic regression": "logistic",
    "gradient boosting, 31 leaves": "boosted, bold",
    "gradient boosting, 31 leaves, L2 penalty": "boosted, deep",
    "gradient boosting, 10 leaves": "boosted, shallow",
    "expert: score": "own: score",
    "the in-context model is for binary outcomes": "the embedded model knows one event, not classes",
}


def account(model: nw.RiskClassifier | nw.Synthesizer) -> Any:
    """The summary of the fit, in the golden file's shape."""
    if isinstance(model, nw.Synthesizer):
        text = json.dumps(model.summary_ | redrawn(model))
        return json.loads(text.replace("no discriminator separates", "no critic tells").replace('"discriminators":', '"critics":'))
    summary = model.summary_.to_dict()
    retrieval, out_of_fold, backbone = (summary.pop(name) for name in ("retrieval", "out_of_fold", "backbone"))
    backbone["why"] = NAMES.get(backbone["why"], backbone["why"])
    renamed = {"auprc_without": "auprc_panel_alone", "auprc_with": "auprc_together"}
    backbone = {renamed.get(name, name): value for name, value in backbone.items()}
    if "adapter" in backbone:
        backbone["adapter"]["kept"] = backbone["adapter"].pop("in_use")
    out_of_fold["members"] = {NAMES.get(name, name): one for name, one in out_of_fold.pop("base_learners").items()}
    if "tried" in retrieval:
        summary["stack_pull"] = summary.pop("stack_shrinkage")
        out_of_fold["contexts"] = [
            {"places": one["embedding"], **one["setting"], "vote_auprc": one["vote_auprc"]} for one in retrieval["tried"]
        ]
    else:
        out_of_fold["vote_log_loss"] = retrieval["vote_log_loss"]
    setting = retrieval["setting"]
    return summary | {"retrieval": str(model.summary_.retrieval), "backbone": backbone, "out_of_fold": out_of_fold, "context": setting}


def about(generator: nw.Synthesizer) -> dict[str, Any]:
    """The settings in a table's stamp, with the share of rows sampled again."""
    return generator.about | redrawn(generator)


def redrawn(generator: nw.Synthesizer) -> dict[str, float]:
    """The share of rows sampled again in a sample."""
    return {"drawn_again": generator.sample_with_redrawn(30)[1]}


def figures(model: nw.RiskClassifier) -> dict[str, Any]:
    """The main figures of the summary."""
    summary = account(model)
    out_of_fold = {name: summary["out_of_fold"][name] for name in ("auprc", "auroc")}
    return {name: summary[name] for name in ("retrieval", "backbone", "context")} | out_of_fold


def privacy(generator: nw.Synthesizer) -> Any:
    """What differential privacy cost: an object with ``to_json``, ``charge`` and ``spent``."""
    return generator.privacy


def improving(**settings: Any) -> Any:
    """Settings of the optimisers."""
    from nearward.synth.optimization.improvement import ImproveConfig

    return ImproveConfig(**settings)


# ---- tables ------------------------------------------------------------------------------------------------------------


def clinic(n: int, seed: int, patients: int = 0) -> Table:
    """Visits with numbers, text, truth values and gaps; an outcome in about one of five; the patients of the visits."""
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, patients or n, n)
    age, lactate, sodium = rng.normal(62, 12, n).round(1), rng.gamma(3, 0.6, n).round(2), rng.normal(139, 4, n).round()
    ward, diabetic = rng.choice(["ICU", "medical", "surgical"], n, p=[0.2, 0.5, 0.3]), rng.random(n) < 0.3
    signal = 0.06 * (age - 62) + 0.9 * (lactate - 1.8) + 1.2 * (ward == "ICU") + 0.02 * (sodium - 139) ** 2 - 2.4
    died = (rng.random(n) < 1 / (1 + np.exp(-signal))).astype(int)
    low = rng.integers(50, 90, n)
    columns = {
        "age": age,
        "lactate": gaps(lactate, rng.random(n) < 0.2),
        "sodium": gaps(sodium, rng.random(n) < 0.1),
        "ward": gaps(ward, rng.random(n) < 0.05),
        "diabetic": diabetic.tolist(),
        "dbp": low,
        "sbp": low + rng.integers(5, 60, n),
        "score": (signal + rng.normal(0, 1.5, n)).round(2),
    }
    return pl.DataFrame(columns), died, patient


def gaps(values: np.ndarray, gone: np.ndarray) -> list[Any]:
    return [None if hole else value for value, hole in zip(values.tolist(), gone.tolist(), strict=True)]


def cohort(n: int, seed: int, patients: int = 0) -> pl.DataFrame:
    """The clinic as one table, with its patients as text and its outcome."""
    frame, died, patient = clinic(n, seed, patients)
    return frame.drop("score").with_columns(patient=pl.Series([f"p{i}" for i in patient]), died=pl.Series(died))


def risks(n: int, seed: int) -> pl.DataFrame:
    """Two risks, one of them better; sites and sexes; two rows a patient."""
    rng = np.random.default_rng(seed)
    truth = rng.beta(1, 5, n)
    return pl.DataFrame(
        {
            "patient": np.arange(n) // 2,
            "sex": rng.choice(["f", "m"], n).tolist(),
            "site": rng.choice(["A", "B", "C"], n, p=[0.5, 0.4, 0.1]).tolist(),
            "unit": rng.normal(size=n),
            "died": rng.random(n) < truth,
            "ours": np.clip(truth * rng.uniform(0.6, 1.4, n), 0, 1),
            "theirs": np.clip(truth * rng.uniform(0.1, 1.9, n), 0, 1),
        }
    )


def digest(frame: pl.DataFrame) -> dict[str, Any]:
    """A table as a hash of its text, with the means of its numbers."""
    rows = [",".join(f"{value:.9g}" if isinstance(value, float) else str(value) for value in row) for row in frame.iter_rows()]
    numbers = [name for name, dtype in frame.schema.items() if dtype.is_numeric()]
    return {
        "sha256": hashlib.sha256("\n".join([",".join(frame.columns), *rows]).encode()).hexdigest()[:16],
        "means": {name: frame[name].mean() for name in numbers},
    }


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# ---- risks -------------------------------------------------------------------------------------------------------------


def test_binary_risk(golden: Golden, tmp_path: Path) -> None:
    frame, died, patient = clinic(400, 64, patients=280)
    new = clinic(12, 1)[0]
    model = nw.RiskClassifier(random_state=0, folds=3).fit(frame, died, groups=patient)
    scored, similar = model.predict_frame(new), model.similar(new[:2], k=4)
    model.save(tmp_path / "model")
    again = nw.load(tmp_path / "model")
    assert again.predict_frame(new).equals(scored)
    assert again.similar(new[:2], k=4).equals(similar)
    golden(
        "risk, binary",
        {
            "predict_frame": scored,
            "predict": model.predict(new),
            "similar": similar,
            "gate": model.gate(),
            "gate of a row": model.gate(new[:1]),
            "account": account(model),
            "classes": model.classes_,
            "repr": repr(model),
        },
    )


def test_binary_risk_of_two_members_beside_an_adapter(golden: Golden, tmp_path: Path) -> None:
    """Encoders and the in-context network are both in use here."""
    frame, died, patient = clinic(400, 62, patients=280)
    encoder = nw.EncoderConfig(steps=40)
    model = nw.RiskClassifier(random_state=0, folds=3, members=2, adapter=True, encoder=encoder, experts=["score"])
    scored = model.fit(frame, died, groups=patient).predict_frame(clinic(8, 1)[0])
    model.save(tmp_path / "model")
    assert nw.load(tmp_path / "model").predict_frame(clinic(8, 1)[0]).equals(scored)
    golden("risk, two members", {"predict_frame": scored, "gate": model.gate(), "figures": figures(model)})


def test_binary_risk_with_a_score_and_another_prevalence(golden: Golden) -> None:
    frame, died, _ = clinic(320, 2)
    model = nw.RiskClassifier(random_state=1, experts=["score"], prevalence=0.03, folds=3, positive=1).fit(frame, died)
    new = clinic(8, 3)[0]
    golden("risk, score and prevalence", {"predict_frame": model.predict_frame(new), "gate": model.gate(), "figures": figures(model)})


def test_binary_risk_of_trained_encoders_and_an_estimator_as_expert(golden: Golden, tmp_path: Path) -> None:
    """A ring around the middle is what no linear metric sees; the panel is given an estimator as well."""
    rng = np.random.default_rng(4)
    frame = pl.DataFrame(rng.normal(size=(500, 4)), schema=["a", "b", "c", "d"])
    ill = (rng.random(500) < np.where((frame["a"] ** 2 + frame["b"] ** 2).to_numpy() > 3, 0.75, 0.05)).astype(int)
    encoder = nw.EncoderConfig(steps=250)
    model = nw.RiskClassifier(random_state=2, folds=3, encoder=encoder, backbone=None, experts=[nw.OneClass(steps=30)]).fit(frame, ill)
    new = pl.DataFrame(rng.normal(size=(8, 4)), schema=frame.columns)
    scored = model.predict_frame(new)
    model.save(tmp_path / "model")
    assert nw.load(tmp_path / "model").predict_frame(new).equals(scored)
    parts = {"predict_frame": scored, "similar": model.similar(new[:1], k=4), "gate": model.gate(new), "figures": figures(model)}
    golden("risk, encoders and a one-class expert", parts)


def test_risk_of_three_classes(golden: Golden, tmp_path: Path) -> None:
    frame, _, patient = clinic(320, 5, patients=250)
    rng = np.random.default_rng(6)
    place = frame["score"].to_numpy() + rng.normal(0, 0.7, 320)
    went = np.where(place > -0.5, "died", np.where(frame["age"].to_numpy() > 65, "care", "home"))
    model = nw.RiskClassifier(random_state=3, folds=3).fit(frame, went, groups=patient)
    new = clinic(4, 7)[0]
    scored = model.predict_frame(new)
    model.save(tmp_path / "model")
    assert nw.load(tmp_path / "model").predict_frame(new).equals(scored)
    parts = {"predict_frame": scored, "similar": model.similar(new[:1], k=3), "gate": model.gate(), "account": account(model)}
    golden("risk, three classes", parts)


# ---- synthetic tables --------------------------------------------------------------------------------------------------


def test_synthesizer(golden: Golden, tmp_path: Path) -> None:
    train = cohort(1000, 10, patients=900)
    generator = nw.Synthesizer(seed=0).fit(train, outcome="died", groups="patient")
    synthetic, dead = generator.sample(40), generator.sample(40, where={"died": 1}, seed=5)
    generator.save(tmp_path / "generator")
    assert nw.Synthesizer.load(tmp_path / "generator").sample(40).equals(synthetic)
    golden(
        "synthesizer",
        {
            "sample": digest(synthetic),
            "dtypes": [str(dtype) for dtype in synthetic.dtypes],
            "first rows": synthetic[:2],
            "sample of an event": digest(dead),
            "rules": [str(rule) for rule in generator.rules],
            "enforced": len(generator.rules.enforced),
            "broken in the table": generator.rules.violations(train).sum(axis=0),
            "rules.yaml": yaml.safe_load((tmp_path / "generator" / "rules.yaml").read_text(encoding="utf-8")),
            "about": about(generator),
            "account": account(generator),
        },
    )


def test_improved_synthesizer(golden: Golden) -> None:
    """Discriminators are trained, and are at chance on so few rows; test_optimizers_golden.py has a policy that they improve."""
    train = cohort(800, 11).drop("patient")
    generator = nw.Synthesizer(seed=0, optimiser="tilt", improving=improving(rounds=1, rows=600)).fit(train, outcome="died")
    golden("synthesizer, critics", {"sample": digest(generator.sample(30)), "account": account(generator)})


def test_synthesizer_with_a_target(golden: Golden) -> None:
    generator = nw.Synthesizer(seed=1, target=0.5).fit(cohort(300, 12).drop("patient"), outcome="died")
    golden("synthesizer, target", {"sample": digest(generator.sample(40))})


def test_private_synthesizer(golden: Golden, tmp_path: Path) -> None:
    """The noise comes from no seed: what is fixed is the ledger, and what each release may cost."""
    rng = np.random.default_rng(13)
    ill = rng.random(4000) < 0.3
    table = {"patient": [f"p{i // 2}" for i in range(4000)], "ward": np.where(ill, "ICU", "medical").tolist()}
    train = pl.DataFrame({**table, "died": (rng.random(4000) < np.where(ill, 0.4, 0.05)).astype(int)})
    generator = nw.Synthesizer(seed=0, epsilon=3.0).fit(train, outcome="died", groups="patient")
    generator.save(tmp_path / "generator")
    spent = privacy(generator)
    assert nw.Synthesizer.load(tmp_path / "generator").privacy == spent
    by_hand = type(spent)(epsilon=1.0, delta=1e-6, rows_per_patient=2).charge("count", rho=0.01, noise="wide").charge("pair", rho=0.002)
    golden(
        "synthesizer, private",
        {
            "ledger": spent.to_json(),
            "as text": str(spent).splitlines()[0],
            "by hand": by_hand.to_json(),
            "left": [by_hand.budget, by_hand.remaining],
            "rows": {"train": generator.audit_rows.train.height, "holdout": generator.audit_rows.holdout.height},
        },
    )


def test_export(golden: Golden, tmp_path: Path) -> None:
    """The stamp of an exported table, without the card and the schema, which have cases of their own."""
    generator = nw.Synthesizer(seed=0).fit(cohort(300, 14).drop("patient"), outcome="died")
    nw.export_synthetic(generator, 60, tmp_path / "made.parquet", accept_risk="a test of the pipeline")
    stamp = nw.read_stamp(tmp_path / "made.parquet")
    names = ("rows", "generator", "sampled_prior", "rules", "passed", "privacy")
    golden("export", {name: stamp[name] for name in names} | {"keys": sorted(stamp)})


# ---- evaluation --------------------------------------------------------------------------------------------------------


def test_faith_card(golden: Golden, tmp_path: Path) -> None:
    train, holdout = cohort(1000, 20, patients=800), cohort(500, 21, patients=400).with_columns(pl.col("patient") + " b")
    synthetic = (
        cohort(600, 22)
        .drop("patient")
        .with_columns(pl.col("sodium").reverse(), pl.when(pl.col("age") < 50).then("sbp").otherwise("dbp").alias("dbp"))
    )
    steered = cohort(80, 23).with_columns(pl.col("patient") + " c")
    card = nw.faith_card(train=train, holdout=holdout, synthetic=synthetic, outcome="died", group="patient", steered=steered, seed=3)
    card.to_json(tmp_path / "card.json")
    card_json = json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
    golden("faith card", {name: part for name, part in card_json.items() if name not in ("says", "event", "provenance")}, longest=4)


def test_risk_report(golden: Golden, tmp_path: Path) -> None:
    report = nw.evaluate_risk(
        risks(400, 30), "died", "ours", "patient", ["sex", "site"], strata=["site"], site="site", resamples=100, seed=2
    )
    report.to_json(tmp_path / "report.json")
    items = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["items"]
    performance = items["23a"]["content"]
    parts = (pl.col("key").is_in(["auroc", "auprc"])) | pl.col("key").is_null()
    shown = ("level", "rows", "events", "key", "value", "low", "high", "n", "why")
    golden(
        "risk report",
        {
            "table": report.table(),
            "auprc": report["auprc"],
            "subgroups": report.subgroup_table().filter(parts).select(shown),
            "strata": report.strata_table().filter(parts).select(shown),
            "ece by chance": performance["ece_by_chance"],
            "curves": performance["curves"],
            "counts": items["21"]["content"],
            "uses": items["15"]["content"],
            "source leak": performance["source_leak"],
            "notes": items["26"]["content"],
        },
        longest=4,
    )


def test_compared_risks(golden: Golden) -> None:
    comparison = nw.compare_risks(risks(400, 31), "died", ["ours", "theirs"], "patient", alert_rate=0.1, resamples=100)
    numbers = ("key", "value", "low", "high")
    golden(
        "compared risks",
        {
            "table": comparison.table().filter(pl.col("risk") == "theirs").select(numbers),
            "differences": comparison.difference_table().select(numbers),
        },
    )


def test_source_leak(golden: Golden) -> None:
    rng = np.random.default_rng(32)
    ill = rng.random(400) < 0.3
    file = np.where(rng.random(400) < 0.9, ill, ~ill)
    table = {"ill": ill, "file": file, "age": rng.normal(60, 9, 400), "unit": file + rng.normal(0, 0.3, 400)}
    golden("source leak", nw.source_leak(pl.DataFrame(table), "ill", "file").as_dict())


def test_column_costs(golden: Golden) -> None:
    """Without the seconds, which differ from run to run."""
    table = cohort(400, 33, patients=300).select("patient", "died", "age", "lactate", "sodium")
    pick = FunctionTransformer(lambda frame: frame.fill_null(0).to_numpy())
    model = make_pipeline(pick, LogisticRegression(max_iter=1000))
    costs = nw.column_costs(table, "died", ["age", "lactate"], "patient", model=model, resamples=100)
    parts = {"all_columns": costs.all_columns, "selected": costs.selected, "lost": costs.lost, "table": costs.table.drop("seconds_gained")}
    golden("column costs", parts)


# ---- rare outcomes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dsvdd", "droc"])
def test_one_class(golden: Golden, method: str) -> None:
    frame, died, patient = clinic(300, 40, patients=250)
    ranker = nw.OneClass(method=method, steps=40, width=8).fit(frame, died, groups=patient)
    golden(f"one class, {method}", {"rank": ranker.rank(clinic(8, 41)[0]), "threshold": ranker.threshold_})


def test_screening(golden: Golden) -> None:
    frame, _, _ = clinic(300, 42)
    died = (np.arange(300) % 40 == 0).astype(int)
    result = nw.screen(frame, died, ranker=nw.OneClass(steps=30, width=8), budget=0.1)
    parts = {
        "recall": result.recall,
        "linear": result.linear,
        "left out": result.out_of_fold[:5],
        "rank": result.rank(frame[:6]),
    }
    golden("screening", parts)


@pytest.mark.parametrize("sampler", ["smote", "under", None])
def test_resampled(golden: Golden, sampler: Any) -> None:
    frame, died, patient = clinic(300, 43, patients=250)
    model = nw.Resampled(sampler=sampler, learner="forest" if sampler else "boosting", folds=2).fit(frame, died, groups=patient)
    new = clinic(8, 44)[0]
    golden(f"resampled, {sampler}", {"risk": model.predict_proba(new)[:, 1], "uncorrected": model.predict_uncorrected(new)})


def test_alerts(golden: Golden) -> None:
    rng = np.random.default_rng(45)
    truth = rng.beta(1, 6, 500)
    table = pl.DataFrame({name: np.clip(truth * rng.uniform(0.3, 1.7, 500), 0, 1) for name in ("a", "b", "c")})
    event = rng.random(500) < truth
    alerts = nw.Alerts(["a", "b", "c"], abstain=0.05).fit(table, event, groups=np.arange(500) // 2)
    linear = make_pipeline(FunctionTransformer(lambda frame: frame.select("a", "b").to_numpy()), LogisticRegression())
    cross_fitted = nw.Alerts({"a": linear, "b": nw.Resampled(sampler=None, learner="forest", folds=2)}).fit(table[:300], event[:300])
    names = {"widest_": "max_spread_", "alone_": "isolated_threshold_"}  # in the golden file -> today
    learned = {name: getattr(alerts, names.get(name, name)) for name in ("threshold_", "widest_", "boost_", "alone_", "weight_")}
    golden("alerts", {**learned, "decided": alerts.decide(table[:12]), "brought members": cross_fitted.decide(table[300:306])})


def test_stable_columns(golden: Golden) -> None:
    frame, died, patient = clinic(400, 46, patients=300)
    chosen = nw.StableColumns(wrong=2.0).fit(frame, died, groups=patient)
    golden("stable columns", {"columns": chosen.columns_, "most": chosen.most_, "table": chosen.table_})


def test_unknown_gate(golden: Golden, tmp_path: Path) -> None:
    frame, _, patient = clinic(400, 47, patients=300)
    gate = nw.UnknownGate(steps=40, width=8).fit(frame.drop("ward"), frame["ward"].fill_null("none").to_numpy(), groups=patient)
    new = clinic(8, 48)[0].drop("ward")
    gate.save(tmp_path / "gate")
    assert nw.UnknownGate.load(tmp_path / "gate").gate(new).equals(gate.gate(new))
    golden("unknown gate", {"gate": gate.gate(new), "score": gate.score_samples(new), "offset": gate.offset_})


def test_cell_model(golden: Golden, tmp_path: Path) -> None:
    model = nw.CellModel(random_state=0, steps=60).fit(clinic(300, 49)[0])
    new = clinic(8, 50)[0]
    model.save(tmp_path / "cells")
    assert nw.CellModel.load(tmp_path / "cells").transform(new).equals(model.transform(new))
    golden("cell model", {"filled": model.transform(new)[:5].select("lactate", "sodium", "ward"), "surprise": model.surprise(new[:4])})


def test_windows(golden: Golden) -> None:
    rng = np.random.default_rng(51)
    moments = pl.DataFrame({"patient": [0, 1, 2, 1], "hour": [10, 12, 5, 24]})
    table = {"patient": rng.integers(0, 3, 40), "hour": rng.integers(0, 24, 40), "pulse": rng.normal(80, 9, 40).round(1)}
    measured = pl.DataFrame({**table, "lactate": gaps(rng.gamma(3, 0.6, 40).round(2), rng.random(40) < 0.5)})
    summaries = nw.windows(moments, measured, patient="patient", time="hour", spans=(None, 6))
    series = nw.regular_series(moments, measured, patient="patient", time="hour", every=3, steps=4)
    golden("windows", {"windows": summaries, "series": series})


def test_window_gate(golden: Golden) -> None:
    rng = np.random.default_rng(52)
    acute = rng.random(400) < 0.5
    truth, noise = rng.beta(1, 3, 400), rng.beta(1, 3, 400)
    table = {"6h": np.where(acute, truth, noise), "7d": np.where(acute, noise, truth), "acute": acute, "age": rng.normal(60, 10, 400)}
    frame = pl.DataFrame(table)
    gate = nw.WindowGate(["6h", "7d"]).fit(frame, rng.random(400) < truth, groups=np.arange(400) // 2)
    parts = {"risk": gate.predict_proba(frame[:8])[:, 1], "weights": gate.weights(frame[:8]), "pull": gate.shrinkage_}
    golden("window gate", parts)


def test_series_encoder(golden: Golden) -> None:
    rng = np.random.default_rng(53)
    ill = np.arange(90) % 4 == 0
    stays = pl.DataFrame({"age": rng.normal(60, 9, 90), "pulse": rng.normal(80, 5, (90, 5)) + ill[:, None] * np.linspace(0, 15, 5)})
    encoder = nw.SeriesEncoder(width=2)
    seen = encoder.fit_transform(stays, ill, groups=np.arange(90) // 2)
    golden("series encoder", {"training rows": seen[:5].drop("age"), "new rows": encoder.transform(stays[:5]).drop("age")})


def test_threshold_controller(golden: Golden) -> None:
    rng = np.random.default_rng(54)
    risk = rng.beta(1, 4, 600)
    weeks = pl.DataFrame({"week": np.repeat(np.arange(12), 50), "risk": risk, "event": (rng.random(600) < risk).astype(int)})
    past = rng.beta(1, 9, 500)
    rate = nw.ThresholdController(target_alert_rate=0.1).start(past).run(weeks, "risk", "week")
    recall = nw.ThresholdController(target_recall=0.8, delay=2).start(past, rng.random(500) < past).run(weeks, "risk", "week", "event")
    golden("threshold controller", {"alert rate": rate["threshold"], "recall": recall})


def test_small_things(golden: Golden) -> None:
    frame, _, _ = clinic(200, 55)
    lab = pl.DataFrame({"age": [1.0, 2.0, 3.0], "lab_na": [140.0, None, 139.0], "lab_k": [4.0, None, None]})
    schema = nw.Schema.from_json(nw.Schema.infer(lab).to_json().replace('"block": null', '"block": "lab"'))
    golden(
        "small things",
        {
            "corrected prior": nw.correct_prior(np.array([0.1, 0.5, 0.9]), 0.3, 0.05),
            "available": nw.availability(lab, schema),
            "schema": json.loads(nw.Schema.infer(frame).to_json()),
            "estimate": str(nw.Estimate(0.5, 0.25, 0.75, 10)),
        },
    )
