"""Text of a cell of a patient's row, for pages and tables about this patient; never for messages."""

from __future__ import annotations

import polars as pl

_CODES_SHOWN = 5  # of a list


def cell_text(value: object) -> str:
    """Return a value as short text: four digits of a number, at most five codes of a list, ``missing``.

    Examples
    --------
    >>> cell_text(0.123456), cell_text(None), cell_text("ICU"), cell_text(pl.Series(["E11", "I10"]))
    ('0.1235', 'missing', 'ICU', 'E11, I10')
    """
    if value is None:
        return "missing"
    if isinstance(value, pl.Series | list):  # a list of codes
        codes = [str(code) for code in value]
        return f"{', '.join(codes[:_CODES_SHOWN])}{', …' if len(codes) > _CODES_SHOWN else ''}" or "no codes"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
