"""``nearward demo``: what nearward does, on a made-up ward with known risks or on a cohort of your own, with nothing to download."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nearward.cli.evaluate import show_card
from nearward.cli.terminal.output import say, show
from nearward.cli.terminal.progress import show_progress
from nearward.datasets import Cohort, read_cohort, ward
from nearward.evaluation.provenance import Provenance
from nearward.evaluation.risk.comparison import compare_risks
from nearward.evaluation.risk.inputs import MIN_COUNT
from nearward.evaluation.risk.report import evaluate_risk
from nearward.release.export import describe, export_table, sample_and_audit
from nearward.risk_model.classifier import RiskClassifier
from nearward.risk_model.effort import count_steps
from nearward.synth.synthesizer import Synthesizer
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.ensemble.boosting import require_package
from nearward.tabular.errors import AUDIT_REMEDIES, InputError
from nearward.tabular.persistence.artifact import model_hash
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Floats, Ints

_STAYS = 10_000  # of the ward: half to learn from, half to judge on
_SYNTHESIZED_STAYS = 16_000  # likewise, of the synthetic table: of fewer, members are recognised in some tables
_MALIGNANT_SHARE = 0.2
_RESAMPLES = 300
_MOST_SYNTHESIZED = 5000  # rows of a user's cohort that the synthesizer is trained on
_MOST_HELD_OUT = 5000  # rows of it that the table is audited on
_MOST_TRAINED = 20_000  # rows of a user's cohort that the demo trains on
_SHARD_ROWS = 200
_PATIENCE = 120.0  # seconds to wait for the first shards of the job that is then killed
_SYNTHETIC = (  # columns of the synthetic ward: most that deaths depend on, and three that follow from others
    *("age", "sex", "systolic", "diastolic", "respiratory_rate", "lactate"),
    *("creatinine", "urea", "albumin", "haemoglobin", "haematocrit"),
)
_METRICS = ("auprc", "auroc", "scaled_brier")


def run(data: Path | None, sidecar: Path | None, task: str | None, seed: int, out: Path) -> None:
    """Run the demo, print the results, and write its files into ``out``."""
    started = time.monotonic()
    require_package("lightgbm")  # before anything is computed
    _make_folder(out)
    truth: Floats | None = None
    if data is None:
        cohort, truth = _ward(seed)
    else:
        cohort = read_cohort(data, sidecar, task)
    train, test = _split(cohort, seed, 2 if data is None else 5)
    say(f"1. A risk. {cohort.title}; the event: {cohort.event}")
    model, scores, risks = _fit(cohort, train, test, seed)
    pages: list[Path] = []
    if truth is not None:
        risks["true risk"] = truth[test]
    evaluated = _evaluated(cohort, test, risks)
    patients = None if cohort.groups is None else "patient"
    is_evaluable = min(cohort.outcome[test].sum(), len(test) - cohort.outcome[test].sum()) >= MIN_COUNT
    model.save(out / "model")
    origin = Provenance.now(() if data is None else data, model_hash(out / "model"))
    if is_evaluable:
        pages += [out / "risk.html", out / "comparison.html"]
        _compare(evaluated, [*risks], patients, seed).to_html(pages[1], origin)
    else:
        say(f"too few test rows to evaluate the models: {MIN_COUNT} with the event and {MIN_COUNT} without are required")
    similar, caption = _similar(cohort, test, model, scores)
    if is_evaluable:
        report = evaluate_risk(evaluated, "event", "nearward", patients, resamples=_RESAMPLES, seed=seed)
        report.to_html(pages[0], similar.drop(similar.columns[0]), caption, origin)
    if data is None:
        _biopsies(seed)
    _score_in_two_runs(cohort.features[test], model, scores, out)
    if data is None:
        cohort, _ = _ward(seed, _SYNTHESIZED_STAYS)
        train, test = _split(cohort, seed, 2)
    else:
        train, test = train[:_MOST_SYNTHESIZED], test[:_MOST_HELD_OUT]
    pages.append(_synthesize(cohort, train, test, seed, out))
    say(f"\n{time.monotonic() - started:.0f} seconds in all. Open:")
    for page in pages:
        say(f"  {page.resolve()}")


def _make_folder(out: Path) -> None:
    """Create the folder and check that it can be written, before anything is computed."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"--out {out} cannot be written ({error.strerror}): name another folder") from error


def _ward(seed: int, stays: int = _STAYS) -> tuple[Cohort, Floats]:
    """Return the made-up ward, with its codes declared, and its true risks."""
    simulated = ward(stays, seed)
    table = simulated.table
    features = table.drop("stay", "patient", "hospital", "admitted", "died").with_columns(pl.col("admission_type_id").cast(pl.String))
    groups = table["patient"].rank("dense").cast(pl.Int64).to_numpy() - 1
    title = "A made-up ward (nw.datasets.ward): two hospitals, repeated patients, gaps, codes, and known true risks"
    return Cohort("ward", features, table["died"].to_numpy(), groups, title, "died is 1"), simulated.true_risk.to_numpy()


def _split(cohort: Cohort, seed: int, parts: int) -> tuple[Ints, Ints]:
    """Split off one part of the patients of each class as test rows."""
    fold = assign_folds(cohort.outcome, cohort.groups, parts, seed)
    train, test = np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)
    if len(train) > _MOST_TRAINED:
        train = np.sort(np.random.default_rng(seed).choice(train, _MOST_TRAINED, replace=False))
    return train, test


def _fit(cohort: Cohort, train: Ints, test: Ints, seed: int) -> tuple[RiskClassifier, pl.DataFrame, dict[str, Floats]]:
    """Fit nearward and the usual models on the same rows; return the model, its scores, and the risks of all."""
    outcome = cohort.outcome[train]
    say(f"{len(train)} training rows ({outcome.sum()} events), {len(test)} test rows ({cohort.outcome[test].sum()} events)")
    groups = None if cohort.groups is None else cohort.groups[train]
    with show_progress("fit", count_steps("default", RiskClassifier().folds)) as progress:
        model = RiskClassifier(random_state=seed, verbose=progress).fit(cohort.features[train], outcome, groups=groups)
    scores = model.predict_frame(cohort.features[test])
    return model, scores, {"nearward": scores.get_column("risk").to_numpy(), **_usual_risks(cohort.features, train, test, outcome)}


def _usual_risks(features: pl.DataFrame, train: Ints, test: Ints, outcome: Ints) -> dict[str, Floats]:
    """Fit logistic regression and LightGBM with their default settings on the same rows, in the same encoding."""
    schema = Schema.infer(features[train])
    train_rows, test_rows = schema.conform(features[train]), schema.conform(features[test])
    encoding = TableEncoder.fit(schema, train_rows)
    x, x_test = (encoding.transform(frame) for frame in (train_rows, test_rows))
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, outcome)
    boosting = require_package("lightgbm").LGBMClassifier(random_state=0, n_jobs=1, verbose=-1).fit(x, outcome)
    return {"logistic regression": logistic.predict_proba(x_test)[:, 1], "LightGBM": np.asarray(boosting.predict_proba(x_test))[:, 1]}


def _evaluated(cohort: Cohort, test: Ints, risks: dict[str, Floats]) -> pl.DataFrame:
    frame = pl.DataFrame({"event": cohort.outcome[test], **risks})
    return frame if cohort.groups is None else frame.with_columns(patient=pl.Series(cohort.groups[test]))


def _compare(frame: pl.DataFrame, names: Sequence[str], group: str | None, seed: int) -> Any:
    """Print each model's metrics and the paired differences; return the comparison."""
    comparison = compare_risks(frame, "event", names, group, resamples=_RESAMPLES, seed=seed)
    rows = [{"risk": name, **{key: str(results[key]) for key in _METRICS}} for name, results in comparison.metrics.items()]
    show(pl.DataFrame(rows), "on the test rows (95 % intervals; scaled Brier score: what the risk explains beyond the event rate)")
    rows = [{f"{names[0]} less": name, **{key: str(results[key]) for key in _METRICS}} for name, results in comparison.differences.items()]
    show(pl.DataFrame(rows), "paired differences")
    return comparison


def _similar(cohort: Cohort, test: Ints, model: RiskClassifier, scores: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Print the similar patients of the test patient with the highest risk."""
    highest = int(scores.get_column("risk").arg_max() or 0)
    patient = scores.row(highest, named=True)
    similar = model.similar(cohort.features[test[highest : highest + 1]], k=5)
    event = "had the event" if cohort.outcome[test][highest] else "did not have the event"
    title = (
        f"\n2. Why: the test patient with the highest risk, "
        f"{patient['risk']:.3f} ({patient['low']:.3f} to {patient['high']:.3f}), {event}. "
        "The similar patients with the largest weights, and the columns in which they differ most:"
    )
    show(similar.select("patient", "weight", "outcome", "differs"), title)
    return similar, f"Similar patients of the test patient with the highest risk ({patient['risk']:.3f}), from the training rows."


def _biopsies(seed: int) -> None:
    """Compare on real patients: biopsies of breast masses (Wisconsin, 569), the malignant ones thinned to a fifth."""
    bunch = load_breast_cancer()
    malignant, benign = np.flatnonzero(bunch.target == 0), np.flatnonzero(bunch.target == 1)
    n_malignant = round(len(benign) * _MALIGNANT_SHARE / (1 - _MALIGNANT_SHARE))
    rows = np.sort(np.concatenate([benign, np.random.default_rng(seed).choice(malignant, n_malignant, replace=False)]))
    features = pl.DataFrame({str(name): bunch.data[rows, j] for j, name in enumerate(bunch.feature_names)})
    cohort = Cohort("biopsies", features, (bunch.target[rows] == 0).astype(np.int64), None, "biopsies", "diagnosis is malignant")
    say("\n3. Real patients: breast biopsies (Wisconsin, with scikit-learn). Easy and few: all models are close, and intervals say so.")
    train, test = _split(cohort, seed, 2)
    _, _, risks = _fit(cohort, train, test, seed)
    _compare(_evaluated(cohort, test, risks), [*risks], None, seed)


def _score_in_two_runs(rows: pl.DataFrame, model: RiskClassifier, scores: pl.DataFrame, out: Path) -> None:
    """Kill a scoring job of the saved model after its first shards, run it again, and compare with the scores of this process."""
    say("\n4. Every night: a scoring job is killed, and the same command resumes it.")
    archive = out / "archive.parquet"
    rows.head(10 * _SHARD_ROWS).write_parquet(archive)
    folder = out / "scores"
    command = [sys.executable, "-m", "nearward.cli.main", "score", *map(str, (out / "model", archive)), "--out", str(folder)]
    command += ["--workers", "1", "--shard-rows", str(_SHARD_ROWS), "--quiet"]
    first = subprocess.Popen([*command, "--restart"], stderr=subprocess.DEVNULL)
    until = time.monotonic() + _PATIENCE
    while first.poll() is None and len([*folder.glob("part-*.parquet")]) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    first.kill()
    first.wait()
    done = len([*folder.glob("part-*.parquet")])
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    if again.returncode:
        raise InputError(f"the scoring job could not be resumed: {again.stderr.strip()}")
    resumed = pl.read_parquet(folder / "part-*.parquet")
    expected = scores.head(10 * _SHARD_ROWS)
    loaded = RiskClassifier.load(out / "model").predict_frame(rows.head(100)).equals(scores.head(100))
    difference = float(np.abs(resumed["risk"].sort().to_numpy() - expected["risk"].sort().to_numpy()).max())
    say(
        f"killed after {done} of {-(-len(expected) // _SHARD_ROWS)} shards, then resumed: {resumed.height} rows in {folder}; "
        f"largest difference to the scores of this process {difference:.1g}; saved and loaded: {'equal' if loaded else 'NOT EQUAL'}"
    )


def _synthesize(cohort: Cohort, train: Ints, test: Ints, seed: int, out: Path) -> Path:
    """Generate a synthetic table, audit it, export it if it passes, and return the page with its card."""
    say("\n5. A synthetic table that keeps the rare outcome and the rules, audited before it may leave.")
    outcome = next(name for name in ("outcome", "outcome_", "outcome__") if name not in cohort.features.columns)
    patients = None if cohort.groups is None else f"patient of {outcome}"
    columns = [name for name in cohort.features.columns if cohort.name != "ward" or name in _SYNTHETIC]
    frame = cohort.features.select(columns).with_columns(pl.Series(outcome, cohort.outcome))
    if patients is not None:
        frame = frame.with_columns(pl.Series(patients, cohort.groups))
    with show_progress("synthesize", 16) as progress:
        model = Synthesizer(seed=seed, progress=progress).fit(frame[train], outcome=outcome, groups=patients, holdout=frame[test])
        sample = sample_and_audit(model, len(train), seed=seed, progress=progress)
    table, verdict = sample.table, sample.audit
    if verdict is None:
        raise AssertionError("a fitted synthesizer has the rows for its audit")
    share = cohort.outcome[train].mean()
    say(
        f"{table.height} rows, {table.get_column(outcome).to_numpy().mean():.1%} with the event ({share:.1%} in the training rows), "
        f"{len(model.rules.enforced)} mined rules enforced in every row"
    )
    show_card(verdict.card, "the synthetic table")
    verdict.card.to_html(out / "card.html")
    if verdict.missed:
        say(f"Not exported, because it did not pass its audit: {'; '.join(verdict.missed)}.")
        say(AUDIT_REMEDIES)
    else:
        path = out / "synthetic.parquet"
        export_table(table, path, verdict, about=describe(model, seed, sample.redrawn, sample.audits), rules=model.rules)
        say(f"It passed its audit, and was exported with a stamp: {path}")
    return out / "card.html"
