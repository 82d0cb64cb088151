"""``nearward synth``: fit a synthesizer, sample from it, and release audited synthetic tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearward.cli.release import check, export
from nearward.cli.terminal.console import (
    App,
    Category,
    Drop,
    FolderOut,
    GeneratorFolder,
    Group,
    Json,
    Missing,
    Outcome,
    Positive,
    SchemaFile,
    Seed,
    TableFile,
    TableOut,
    as_categories,
    as_value,
    read_schema,
    split_names,
)
from nearward.cli.terminal.output import say, show, write_json, write_rows

app = App(help="Generate synthetic tables, and release them after an audit.")
app.command()(export)
app.command()(check)

_STEPS = 14  # of progress: tokens, rules, the time of the training, ten of its epochs, the outcome model


@app.command()
def fit(
    cohort: TableFile,
    outcome: Outcome,
    out: FolderOut,
    group: Group = None,
    drop: Drop = None,
    category: Category = None,
    positive: Positive = None,
    rules: Annotated[
        Path | None, typer.Option(help="YAML file of your own rules; instead of mined rules.", show_default=False, metavar="FILE")
    ] = None,
    holdout: Annotated[
        Path | None,
        typer.Option(
            help="Holdout table of other patients for the audit; by default a fifth is set aside.", show_default=False, metavar="TABLE"
        ),
    ] = None,
    optimiser: Annotated[str, typer.Option(help="Optimiser against the discriminators: none, tilt, awr or ppo.", metavar="NAME")] = "none",
    target: Annotated[float | None, typer.Option(help="Prevalence of the event in the samples.", show_default="as in training")] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Differential privacy per patient: noisy marginals, no mined rules.", show_default=False)
    ] = None,
    schema: SchemaFile = None,
    missing: Missing = None,
    time_limit: Annotated[
        float | None, typer.Option(help="Minutes of training, after which the best weights so far are used.", show_default="none")
    ] = None,
    json: Json = None,
    seed: Seed = 0,
) -> None:
    """Fit a synthesizer and save it with its mined rules.

    Review rules.yaml in the folder, and edit it where needed.

    \b
    Examples:
      nearward synth fit cohort.parquet --outcome died --group patient \\
        --out generator/
      nearward synth fit cohort.parquet --outcome died --epsilon 3 \\
        --rules rules.yaml --out generator/
    """
    import polars as pl

    from nearward.cli.terminal.progress import show_progress
    from nearward.synth.persistence import KIND, RULES_FILE
    from nearward.synth.synthesizer import Synthesizer
    from nearward.synth.tokenizer.column_tokenizers import RARE
    from nearward.tabular.data.schema import Schema
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import require_columns
    from nearward.tabular.persistence.artifact import check_folder
    from nearward.tabular.rules.yaml_io import read_rules

    check_folder(out, KIND)
    declared = read_schema(schema, missing)
    frame = read_table(cohort, declared, missing or ())
    frame, declared = as_categories(frame, declared, category)
    dropped = split_names(drop, frame.columns)
    require_columns([outcome, group, *dropped], frame.columns)
    event = as_value(positive, frame.get_column(outcome))
    own_rules = None if rules is None else read_rules(rules)
    read_alike = declared or Schema.from_dtypes(frame).with_roles(group=group).with_missing(missing or ())
    holdout_rows = None if holdout is None else read_table(holdout, read_alike, missing or ())
    with show_progress("fit", _STEPS if epsilon is None else 1) as progress:
        model = Synthesizer(
            seed=seed,
            optimiser=optimiser,  # type: ignore[arg-type]
            target=target,
            epsilon=epsilon,
            progress=progress,
            time_limit=time_limit,
        )
        table = frame.drop(dropped)
        model.fit(table, outcome=outcome, groups=group, positive=event, rules=own_rules, holdout=holdout_rows, schema=declared)
    model.save(out)
    summary = model.summary_
    roles = pl.DataFrame({"role": list(summary["rows"]), "rows": list(summary["rows"].values())})
    show(roles, f"rows by role; the event: {outcome} is {model.positive}")
    if model.privacy is not None:
        say(f"differential privacy: {model.privacy}")
        noisy = summary["outcomes"]["noisy"]
        show(pl.DataFrame({outcome: list(map(str, noisy)), "share": list(noisy.values())}), "shares of the outcome, with the noise")
    else:
        counts = summary["outcomes"]["table"]
        show(pl.DataFrame({outcome: list(map(str, counts)), "rows": list(counts.values())}), "outcomes in the training rows")
    if rare := summary.get("rare"):
        listed = ", ".join(f"{name} {share:.1%}" for name, share in sorted(rare.items(), key=lambda item: -item[1]))
        say(f"values that fewer than five patients have, generated as {RARE} or as missing, share of the rows: {listed}")
    write_json({"outcome": outcome, "event": model.positive, "summary": summary}, json)
    not_enforced = len(model.rules) - len(model.rules.enforced)
    say(
        f"{len(model.rules.enforced)} rules that every row will keep, {not_enforced} shown only (too few rows with the rarer outcome), "
        f"in {out / RULES_FILE}: review them, edit them there. The folder contains patient records."
    )


@app.command()
def sample(
    generator: GeneratorFolder,
    out: TableOut,
    n: Annotated[int, typer.Option("-n", help="Rows.")] = 10_000,
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="Condition column=value that every row satisfies; column= for missing, dates as 2024-05-01; may be repeated.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sample.", show_default="the generator's")] = None,
) -> None:
    """Sample rows for internal use.

    Without audit or stamp: use export for a release.

    \b
    Examples:
      nearward synth sample generator/ -n 50000 --where died=1 --out own.parquet
      nearward synth sample generator/ -n 5 --out -
    """
    from nearward.synth.synthesizer import Synthesizer
    from nearward.tabular.errors import InputError

    model = Synthesizer.load(generator)
    conditions = {}
    for condition in where or []:
        name, sign, text = condition.partition("=")
        if not sign:
            raise InputError(f"--where {condition}: write it as column=value")
        column = model.audit_rows.train.get_column(name) if name in model.audit_rows.train.columns else None
        conditions[name] = None if text == "" else text if column is None or column.dtype.is_temporal() else as_value(text, column)
    table, redrawn = model.sample_with_redrawn(n, where=conditions, seed=seed)
    write_rows(table, out)
    say(
        f"{table.height} rows in {out}, {redrawn:.2%} of them resampled to satisfy the rules; "
        "not audited: for a release use nearward synth export"
    )
