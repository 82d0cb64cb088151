"""The main job from end to end on real patients, with nothing to download: fit, compare, explain, save, load, report, synthesize."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import typer
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nearward.cli.evaluate import show_card
from nearward.cli.progress import show_progress
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
from nearward.tabular.typing import Floats

Rows = NDArray[np.int64]

_MALIGNANT_SHARE = 0.2
_RESAMPLES = 500
_PAGE = Path("nearward-demo.html")  # in the current folder; the next demo writes over it
_TABLE = Path("nearward-demo-synthetic.parquet")  # likewise, where the table passes
_SYNTHESIZED = 4000  # rows of a user's cohort, so that the demo stays short
_AT_MOST = 20_000  # rows of a user's cohort that the demo trains on


def run(data: Path | None, schema: Path | None, task: str | None, seed: int) -> None:
    """Run the demo and print what happens."""
    began = time.monotonic()
    cohort = _biopsies(seed) if data is None else read_cohort(data, schema, task)
    train, test = _split(cohort, seed)
    y, y_test = cohort.outcome[train], cohort.outcome[test]
    group = None if cohort.groups is None else cohort.groups[train]
    typer.echo(f"{cohort.title}: {len(train)} rows to learn from ({y.sum()} events), {len(test)} held out ({y_test.sum()} events)")

    with show_progress("fit", 15) as progress:
        model = RiskClassifier(seed=seed, progress=progress).fit(cohort.features[train], y, groups=group)
    scored = model.predict_frame(cohort.features[test])
    risks = {"nearward": scored.get_column("risk").to_numpy(), **_others(cohort.features, train, test, y)}
    judged = pl.DataFrame({"event": y_test, **risks})
    patients = None if cohort.groups is None else "patient"
    if cohort.groups is not None:
        judged = judged.with_columns(patient=pl.Series(cohort.groups[test]))
    enough = min(y_test.sum(), len(y_test) - y_test.sum()) >= MIN_COUNT
    if enough:
        _compare(judged, list(risks), patients, seed)
    else:
        typer.echo(f"too few held-out events to judge anything: {MIN_COUNT} are needed, and as many rows without")

    riskiest = int(scored.get_column("risk").arg_max() or 0)
    facts = scored.row(riskiest, named=True)
    typer.echo(
        f"\nThe riskiest held-out patient: risk {facts['risk']:.3f} ({facts['low']:.3f} to {facts['high']:.3f}); "
        f"outcome: {'event' if y_test[riskiest] else 'no event'}. Similar patients, and what sets them apart:"
    )
    panel = model.similar(cohort.features[test][riskiest : riskiest + 1], k=5)
    for row in panel.iter_rows(named=True):
        happened = "event   " if row["outcome"] else "no event"
        typer.echo(f"  patient {row['patient']:>6}  weight {row['weight']:.3f}  {happened}  {row['differs']}")

    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        again = load(Path(folder) / "model").predict_frame(cohort.features[test])
    same = again.equals(scored)
    typer.echo(f"\nsaved, loaded and scored again: {'nothing changed' if same else 'THE SCORES CHANGED'}")
    if enough:
        report = evaluate_risk(judged, "event", "nearward", patients, resamples=_RESAMPLES, seed=seed)
        about = f"Similar patients of the riskiest held-out patient (risk {facts['risk']:.3f}), from the training rows."
        report.to_html(_PAGE, panel.drop(panel.columns[0]), about)
        typer.echo(f"a report on nearward's risk, with pictures and that patient's similar ones: {_PAGE.resolve()}")
    _synthesize(cohort, train, test, seed)
    typer.echo(f"{time.monotonic() - began:.0f} seconds in all")
    if not same:
        raise SystemExit(1)


def _synthesize(cohort: Cohort, train: Rows, test: Rows, seed: int) -> None:
    """Make a synthetic table, have it judged, and let it leave if it may."""
    name = next(word for word in ("outcome", "outcome_", "outcome__") if word not in cohort.features.columns)
    group = None if cohort.groups is None else f"patient of {name}"
    frame = cohort.features.with_columns(pl.Series(name, cohort.outcome))
    if group is not None:
        frame = frame.with_columns(pl.Series(group, cohort.groups))
    train, test = train[:_SYNTHESIZED], test[:_SYNTHESIZED]
    with show_progress("synthesize", 15) as progress:
        model = Synthesizer(seed=seed, progress=progress).fit(frame[train], outcome=name, groups=group, holdout=frame[test])
        sample = sample_and_audit(model, len(train), seed=seed, progress=progress)
    table, verdict = sample.table, sample.audit
    if verdict is None:
        raise AssertionError("a synthesizer keeps the rows that it is judged by")
    share = cohort.outcome[train].mean()
    typer.echo(
        f"\nA synthetic table of the same kind: {table.height} rows, {table.get_column(name).to_numpy().mean():.1%} with the event "
        f"({share:.1%} in those it learned from), {len(model.rules.enforced)} mined rules kept in every row"
    )
    show_card(verdict.card, "it")
    if verdict.missed:
        typer.echo(f"It may not leave, and was not written: {'; '.join(verdict.missed)}.")
        typer.echo("nearward synth export --accept-risk would let it leave with a reason that stays in the file.")
    else:
        export_table(table, _TABLE, verdict, about=describe(model, seed, sample.redrawn), rules=model.rules)
        typer.echo(f"It passed its audit, and is stamped: {_TABLE.resolve()}")


def _biopsies(seed: int) -> Cohort:
    """Biopsies of breast masses (Wisconsin, 569 patients), the malignant ones thinned to a fifth."""
    bunch = load_breast_cancer()
    malignant = np.flatnonzero(bunch.target == 0)
    benign = np.flatnonzero(bunch.target == 1)
    kept = round(len(benign) * _MALIGNANT_SHARE / (1 - _MALIGNANT_SHARE))
    chosen = np.sort(np.concatenate([benign, np.random.default_rng(seed).choice(malignant, kept, replace=False)]))
    features = pl.DataFrame({str(name): bunch.data[chosen, j] for j, name in enumerate(bunch.feature_names)})
    title = "Breast biopsies (scikit-learn's copy of Wisconsin diagnostic), outcome malignant, thinned to 20 %"
    return Cohort("biopsies", features, (bunch.target[chosen] == 0).astype(np.int64), None, title)


def _split(cohort: Cohort, seed: int) -> tuple[Rows, Rows]:
    """Hold out a fifth of the patients of each class."""
    fold = assign_folds(cohort.outcome, cohort.groups, 5, seed)
    train, test = np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)
    if len(train) > _AT_MOST:
        train = np.sort(np.random.default_rng(seed).choice(train, _AT_MOST, replace=False))
    return train, test


def _others(features: pl.DataFrame, train: Rows, test: Rows, outcome: Rows) -> dict[str, Floats]:
    """Fit logistic regression and gradient boosting on the same rows, in the same encoding."""
    schema = Schema.infer(features[train])
    seen, asked = schema.conform(features[train]), schema.conform(features[test])
    encoding = TableEncoder.fit(schema, seen)
    x, x_test = (encoding.transform(frame) for frame in (seen, asked))
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, outcome)
    boosting = HistGradientBoostingClassifier(random_state=0).fit(x, outcome)
    return {"logistic regression": logistic.predict_proba(x_test)[:, 1], "gradient boosting": boosting.predict_proba(x_test)[:, 1]}


def _compare(frame: pl.DataFrame, names: list[str], group: str | None, seed: int) -> None:
    """Print each model's figures and, for the others, the paired difference to the first."""
    found = compare_risks(frame, "event", names, group, resamples=_RESAMPLES, seed=seed)
    typer.echo(f"\n{'':22}{'AUPRC (95 %)':25}{'AUROC (95 %)':25}{names[0]}'s AUPRC less this one's")
    for name, results in found.metrics.items():
        line = f"{name:22}{results['auprc']}   {results['auroc']}"
        typer.echo(line + (f"   {found.differences[name]['auprc']}" if name in found.differences else ""))
