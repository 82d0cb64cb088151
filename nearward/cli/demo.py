"""``nearward demo``: fit, compare, explain, save, load, report and synthesize on real patients, with nothing to download."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nearward.cli.evaluate import show_card
from nearward.cli.terminal.output import say
from nearward.cli.terminal.progress import show_progress
from nearward.datasets import Cohort, read_cohort
from nearward.evaluation.risk.comparison import compare_risks
from nearward.evaluation.risk.inputs import MIN_COUNT
from nearward.evaluation.risk.report import evaluate_risk
from nearward.release.export import describe, export_table, sample_and_audit
from nearward.risk_model.classifier import RiskClassifier, load
from nearward.synth.synthesizer import Synthesizer
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Floats, Ints

Rows = Ints

_MALIGNANT_SHARE = 0.2
_RESAMPLES = 500
_PAGE = Path("nearward-demo.html")  # in the current folder, overwritten by the next demo
_TABLE = Path("nearward-demo-synthetic.parquet")  # likewise, where the table passes its audit
_MOST_SYNTHESIZED = 4000  # rows of a user's cohort that the synthesizer is trained on
_MOST_TRAINED = 20_000  # rows of a user's cohort that the demo trains on


def run(data: Path | None, schema: Path | None, task: str | None, seed: int) -> None:
    """Run the demo and print the results."""
    started = time.monotonic()
    cohort = _biopsies(seed) if data is None else read_cohort(data, schema, task)
    train, test = _split(cohort, seed)
    outcome, outcome_test = cohort.outcome[train], cohort.outcome[test]
    groups = None if cohort.groups is None else cohort.groups[train]
    say(
        f"{cohort.title}: {len(train)} training rows ({outcome.sum()} events), {len(test)} test rows ({outcome_test.sum()} events); "
        f"the event: {cohort.event}"
    )

    with show_progress("fit", 11) as progress:
        model = RiskClassifier(random_state=seed, verbose=progress).fit(cohort.features[train], outcome, groups=groups)
    scores = model.predict_frame(cohort.features[test])
    risks = {"nearward": scores.get_column("risk").to_numpy(), **_baseline_risks(cohort.features, train, test, outcome)}
    evaluated = pl.DataFrame({"event": outcome_test, **risks})
    patients = None if cohort.groups is None else "patient"
    if cohort.groups is not None:
        evaluated = evaluated.with_columns(patient=pl.Series(cohort.groups[test]))
    enough = min(outcome_test.sum(), len(outcome_test) - outcome_test.sum()) >= MIN_COUNT
    if enough:
        _compare(evaluated, list(risks), patients, seed)
    else:
        say(f"too few test rows to evaluate the models: {MIN_COUNT} with the event and {MIN_COUNT} without are required")

    highest = int(scores.get_column("risk").arg_max() or 0)
    patient = scores.row(highest, named=True)
    say(
        f"\nThe test patient with the highest risk: {patient['risk']:.3f} ({patient['low']:.3f} to {patient['high']:.3f}); "
        f"outcome: {'event' if outcome_test[highest] else 'no event'}. Similar patients, and the features that differ most:"
    )
    similar = model.similar(cohort.features[test][highest : highest + 1], k=5)
    for row in similar.iter_rows(named=True):
        event = "event   " if row["outcome"] else "no event"
        say(f"  patient {row['patient']:>6}  weight {row['weight']:.3f}  {event}  {row['differs']}")

    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        unchanged = load(Path(folder) / "model").predict_frame(cohort.features[test]).equals(scores)
    say(f"\nsaved, loaded and scored again: {'nothing changed' if unchanged else 'THE SCORES CHANGED'}")
    if enough:
        report = evaluate_risk(evaluated, "event", "nearward", patients, resamples=_RESAMPLES, seed=seed)
        caption = f"Similar patients of the test patient with the highest risk ({patient['risk']:.3f}), from the training rows."
        report.to_html(_PAGE, similar.drop(similar.columns[0]), caption)
        say(f"a report on nearward's risk, with figures and that patient's similar patients: {_PAGE.resolve()}")
    _synthesize(cohort, train, test, seed)
    say(f"{time.monotonic() - started:.0f} seconds in all")
    if not unchanged:
        raise SystemExit(1)


def _synthesize(cohort: Cohort, train: Rows, test: Rows, seed: int) -> None:
    """Generate a synthetic table, audit it, and export it if it passes."""
    outcome = next(name for name in ("outcome", "outcome_", "outcome__") if name not in cohort.features.columns)
    patients = None if cohort.groups is None else f"patient of {outcome}"
    frame = cohort.features.with_columns(pl.Series(outcome, cohort.outcome))
    if patients is not None:
        frame = frame.with_columns(pl.Series(patients, cohort.groups))
    train, test = train[:_MOST_SYNTHESIZED], test[:_MOST_SYNTHESIZED]
    with show_progress("synthesize", 15) as progress:
        model = Synthesizer(seed=seed, progress=progress).fit(frame[train], outcome=outcome, groups=patients, holdout=frame[test])
        sample = sample_and_audit(model, len(train), seed=seed, progress=progress)
    table, verdict = sample.table, sample.audit
    if verdict is None:
        raise AssertionError("a fitted synthesizer has the rows for its audit")
    share = cohort.outcome[train].mean()
    say(
        f"\nA synthetic table of the same kind: {table.height} rows, {table.get_column(outcome).to_numpy().mean():.1%} with the event "
        f"({share:.1%} in the training rows), {len(model.rules.enforced)} mined rules enforced in every row"
    )
    show_card(verdict.card, "the synthetic table")
    if verdict.missed:
        say(f"Not exported, because it did not pass its audit: {'; '.join(verdict.missed)}.")
        say("nearward synth export --accept-risk REASON exports it with the reason written into the file.")
    else:
        export_table(table, _TABLE, verdict, about=describe(model, seed, sample.redrawn, sample.audits), rules=model.rules)
        say(f"It passed its audit, and was exported with a stamp: {_TABLE.resolve()}")


def _biopsies(seed: int) -> Cohort:
    """Biopsies of breast masses (Wisconsin, 569 patients), with the malignant ones subsampled to a fifth."""
    bunch = load_breast_cancer()
    malignant = np.flatnonzero(bunch.target == 0)
    benign = np.flatnonzero(bunch.target == 1)
    n_malignant = round(len(benign) * _MALIGNANT_SHARE / (1 - _MALIGNANT_SHARE))
    sampled = np.random.default_rng(seed).choice(malignant, n_malignant, replace=False)
    rows = np.sort(np.concatenate([benign, sampled]))
    features = pl.DataFrame({str(name): bunch.data[rows, j] for j, name in enumerate(bunch.feature_names)})
    title = "Breast biopsies (scikit-learn's copy of Wisconsin diagnostic), outcome malignant, thinned to 20 %"
    return Cohort("biopsies", features, (bunch.target[rows] == 0).astype(np.int64), None, title, "diagnosis is malignant")


def _split(cohort: Cohort, seed: int) -> tuple[Rows, Rows]:
    """Split off a fifth of the patients of each class as test rows."""
    fold = assign_folds(cohort.outcome, cohort.groups, 5, seed)
    train, test = np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)
    if len(train) > _MOST_TRAINED:
        train = np.sort(np.random.default_rng(seed).choice(train, _MOST_TRAINED, replace=False))
    return train, test


def _baseline_risks(features: pl.DataFrame, train: Rows, test: Rows, outcome: Rows) -> dict[str, Floats]:
    """Fit logistic regression and gradient boosting on the same rows, in the same encoding."""
    schema = Schema.infer(features[train])
    train_rows, test_rows = schema.conform(features[train]), schema.conform(features[test])
    encoding = TableEncoder.fit(schema, train_rows)
    x, x_test = (encoding.transform(frame) for frame in (train_rows, test_rows))
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, outcome)
    boosting = HistGradientBoostingClassifier(random_state=0).fit(x, outcome)
    return {"logistic regression": logistic.predict_proba(x_test)[:, 1], "gradient boosting": boosting.predict_proba(x_test)[:, 1]}


def _compare(frame: pl.DataFrame, names: list[str], group: str | None, seed: int) -> None:
    """Print each model's metrics and, for the others, the paired difference to the first."""
    comparison = compare_risks(frame, "event", names, group, resamples=_RESAMPLES, seed=seed)
    say(f"\n{'':22}{'AUPRC (95 %)':25}{'AUROC (95 %)':25}{names[0]}'s AUPRC less this one's")
    for name, results in comparison.metrics.items():
        line = f"{name:22}{results['auprc']}   {results['auroc']}"
        say(line + (f"   {comparison.differences[name]['auprc']}" if name in comparison.differences else ""))
