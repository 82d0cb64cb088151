"""Figures of a description of events, made by matplotlib without pyplot."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl
from matplotlib import rc_context
from matplotlib.figure import Figure

from nearward.evaluation.events.description import name_codes
from nearward.evaluation.html_page import BLUE, GREY, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = (4.4, 3.2)  # inches
_BAR = 0.22  # inches
_LONG_NAME = 34  # characters


def most_frequent_codes(codes: pl.DataFrame, most: int = 25) -> Figure:
    """Events of each of the codes with most events."""
    shown = codes.sort("events", "code", descending=[True, False]).head(most)
    figure = Figure(figsize=(6.4, 0.9 + _BAR * max(shown.height, 1)), layout="constrained")
    axes = figure.subplots()
    _style(axes, "Events", "")
    axes.barh(range(shown.height), shown.get_column("events").to_numpy(), color=BLUE, height=0.7)
    names = name_codes(shown).to_list()
    axes.set_yticks(range(shown.height), [name if len(name) <= _LONG_NAME else f"{name[: _LONG_NAME - 1]}…" for name in names])
    axes.set_ylim(shown.height - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    return figure


def events_over_time(over_time: pl.DataFrame) -> Figure:
    """Events by calendar period."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    _style(axes, "", "Events")
    periods, events = over_time.get_column("period").to_list(), over_time.get_column("events").to_list()
    width = periods[-1] - periods[-2] if len(periods) > 1 else timedelta(days=1)
    with rc_context({"date.converter": "concise"}):
        axes.step([*periods, periods[-1] + width], [*events, events[-1]], where="post", color=BLUE)
    axes.set_ylim(bottom=0)
    return figure


def events_by_hour(by_hour: pl.DataFrame) -> Figure:
    """Events by hour of the day: a peak at midnight is often dates without a time."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    _style(axes, "Hour of the day", "Events")
    axes.bar(by_hour.get_column("hour").to_numpy(), by_hour.get_column("events").to_numpy(), color=BLUE, width=0.8)
    axes.set_xlim(-0.6, 23.6)
    axes.set_xticks(range(0, 24, 6))
    return figure


def _style(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.tick_params(labelsize=8.5, colors=INK, length=3)
    axes.grid(visible=True, color="#e6eaee", linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)
