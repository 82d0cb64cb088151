"""``nearward card``: the card of a fitted model, with what is known filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearward.cli.terminal.console import FolderOut, ModelFolder
from nearward.cli.terminal.output import say, show


def card(
    model: ModelFolder,
    out: FolderOut,
    evaluation: Annotated[
        Path | None,
        typer.Option(help="JSON of nearward evaluate risk on other rows: fills in performance.", show_default=False, metavar="FILE"),
    ] = None,
) -> None:
    """Write the card of a model.

    As Markdown, HTML and JSON: CHAI's Applied Model Card, TRIPOD+AI, a self-check by the domains of PROBAST+AI, and Riley's criteria for
    the sample size. What is known is filled in; blanks are for what only people know.

    \b
    Examples:
      nearward card model/ --out card/
      nearward card model/ --evaluation risk.json --out card/
    """
    from nearward.reporting.card import model_card

    written = model_card(model, evaluation)
    written.write(out)
    if written.sample_sizes().height:
        show(written.sample_sizes(), "sample size by Riley's criteria")
    items = [text for section in written.chai.values() for text in section.values()] + list(written.tripod.values())
    filled = sum(text is not None for text in items)
    say(f"card.md, card.html and card.json written into {out}: {filled} of {len(items)} items are filled in")
