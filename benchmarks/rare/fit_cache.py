"""Parts of a fit that an option does not touch are fitted once a cell, and their time is counted every time.

A RiskClassifier with one more expert trains the same encoders as the untouched one, and one whose encoder is trained otherwise has the same
panel. What these parts are made from (rows, outcomes, patients, settings, seed) decides what they are, so the same input is answered with
what it was answered with before; a changed input is fitted. ``clock`` adds the processor time that this saved, so that a fit costs what it
would cost alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

_PARTS = (
    ("nearward.tabular.ensemble.base_learners", "_fit_fold"),
    ("nearward.retrieval.neighbors.binary", "train_encoder"),
    ("nearward.retrieval.neighbors.binary", "fit_linear_metric"),
)
_known: dict[bytes, tuple[Any, float]] = {}  # of one cell: what a part is, and what it took
_saved = [0.0]


def clock() -> float:
    """Return processor seconds of all threads, those that sharing saved among them."""
    return time.process_time() + _saved[0]


def forget() -> None:
    """Drop the parts of a cell; the next has other rows."""
    _known.clear()


@contextmanager
def shared() -> Iterator[None]:
    """Fit inside the block with parts shared."""
    places = [(import_module(module), name) for module, name in _PARTS]
    before = [getattr(module, name) for module, name in places]
    for (module, name), fit in zip(places, before, strict=True):
        setattr(module, name, _remembering(fit))
    try:
        yield
    finally:
        for (module, name), fit in zip(places, before, strict=True):
            setattr(module, name, fit)


def _remembering(fit: Callable[..., Any]) -> Callable[..., Any]:
    def asked(*given: Any) -> Any:
        seen = hashlib.sha256(fit.__qualname__.encode())
        _read(given, seen)
        key = seen.digest()
        if key in _known:
            part, spent = _known[key]
            _saved[0] += spent
            return part
        began = time.thread_time()  # every part is fitted by one thread (tabular/parallel.py)
        part = fit(*given)
        _known[key] = part, time.thread_time() - began
        return part

    return asked


def _read(value: Any, seen: Any) -> None:
    """Add all that a value consists of to a hash; a panel's own scores stay out, as no fold's members read them."""
    if isinstance(value, np.ndarray):
        seen.update(f"{value.dtype}{value.shape}".encode())
        seen.update(np.ascontiguousarray(value).tobytes())
    elif dataclasses.is_dataclass(value):
        seen.update(type(value).__name__.encode())
        for field in dataclasses.fields(value):
            if (type(value).__name__, field.name) != ("Columns", "own"):
                _read(getattr(value, field.name), seen)
    elif isinstance(value, tuple | list):
        seen.update(f"({len(value)}".encode())
        for item in value:
            _read(item, seen)
    else:
        assert value is None or isinstance(value, bool | int | float | str | np.generic), type(value)
        seen.update(repr(value).encode())
