"""``nearward synth``: synthetic tables, from a cohort to a file that may leave."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearward.cli.console import as_value
from nearward.cli.release import check, export

app = typer.Typer(help="Make synthetic tables, and let them leave.", no_args_is_help=True)
app.command()(export)
app.command()(check)

_TICKS = 13  # tokens, rules, ten of training, trees of the outcome


@app.command()
def fit(
    cohort: Annotated[Path, typer.Argument(help="Parquet, CSV or Arrow/Feather file.", show_default=False)],
    outcome: Annotated[str, typer.Option(help="Column of the outcome.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    group: Annotated[str | None, typer.Option(help="Column that names the patients.", show_default=False)] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Columns to leave out; may be repeated.", show_default=False)] = None,
    positive: Annotated[str | None, typer.Option(help="Outcome value that is the event.", show_default="the greater of the two")] = None,
    rules: Annotated[Path | None, typer.Option(help="Rules file in the place of mined rules.", show_default=False)] = None,
    holdout: Annotated[
        Path | None, typer.Option(help="Table of other patients to judge by; by default a fifth is set aside.", show_default=False)
    ] = None,
    optimiser: Annotated[str, typer.Option(help="What listens to the critics: none, tilt, awr or ppo.")] = "none",
    target: Annotated[
        float | None, typer.Option(help="Share of the rare outcome that samples shall have.", show_default="as learned")
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Differential privacy for every patient: noisy marginals, nothing mined.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the synthesizer.")] = 0,
) -> None:
    """Learn a cohort, mine its rules, and keep both in a folder; rules.yaml in it is to be reviewed, and may be edited."""
    from nearward.cli.console import split_names
    from nearward.cli.progress import show_progress
    from nearward.synth.persistence import KIND, RULES_FILE
    from nearward.synth.synthesizer import Synthesizer
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import MissingColumns
    from nearward.tabular.persistence.artifact import check_folder
    from nearward.tabular.rules.yaml_io import read_rules

    check_folder(out, KIND)
    frame = read_table(cohort)
    out_of_fold = split_names(drop)
    if missing := [name for name in (outcome, *out_of_fold) if name not in frame.columns]:
        raise MissingColumns(missing, frame.columns)
    event = None if positive is None else as_value(positive, frame.get_column(outcome))
    given = None if rules is None else read_rules(rules)
    judges = None if holdout is None else read_table(holdout)
    with show_progress("fit", _TICKS if epsilon is None else 1) as progress:
        model = Synthesizer(seed=seed, optimiser=optimiser, target=target, epsilon=epsilon, progress=progress)  # type: ignore[arg-type]
        model.fit(frame.drop(out_of_fold), outcome=outcome, groups=group, positive=event, rules=given, holdout=judges)
    model.save(out)
    told = model.summary_
    typer.echo(f"rows by role: {told['rows']}")
    if model.privacy is not None:
        typer.echo(f"differential privacy: {model.privacy}")
        shares = {name: round(share, 4) for name, share in told["outcomes"]["noisy"].items()}
        typer.echo(f"shares of the outcome, with the noise: {shares}")
    else:
        typer.echo(f"outcomes in the rows learned: {told['outcomes']['table']}, as tokens: {told['outcomes']['tokens']}")
    weak = len(model.rules) - len(model.rules.enforced)
    typer.echo(
        f"{len(model.rules.enforced)} rules that every row will keep, {weak} shown only (too few rows with the rare outcome), "
        f"in {out / RULES_FILE}: review them, edit them there. The folder contains patient records."
    )


@app.command()
def sample(
    generator: Annotated[Path, typer.Argument(help="Folder of a fitted generator.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Parquet, CSV or Arrow file to write.", show_default=False)],
    n: Annotated[int, typer.Option("-n", help="Rows.")] = 10_000,
    where: Annotated[
        list[str] | None, typer.Option(help="column=value that every row shall have; may be repeated.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sample.", show_default="the generator's")] = None,
) -> None:
    """Draw rows for your own use: neither audited nor stamped. What leaves the building goes through export."""
    from nearward.synth.synthesizer import Synthesizer
    from nearward.tabular.data.table_io import write_table
    from nearward.tabular.errors import InputError

    model = Synthesizer.load(generator)
    asked = {}
    for words in where or []:
        name, sign, text = words.partition("=")
        if not sign:
            raise InputError(f"--where {words}: write it as column=value")
        column = model.audit_rows.train.get_column(name) if name in model.audit_rows.train.columns else None
        asked[name] = text if column is None else as_value(text, column)
    table, redrawn = model.sample_with_redrawn(n, where=asked, seed=seed)
    write_table(table, out)
    typer.echo(
        f"{table.height} rows in {out}, {redrawn:.2%} of them drawn again to keep the rules; "
        "not audited: they may not leave (nearward synth export)"
    )
