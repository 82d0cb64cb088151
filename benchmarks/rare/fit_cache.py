"""Parts of a fit that several methods share are fitted once per setting; their time counts every time.

A RiskClassifier with one more expert trains the same encoders as the untouched one, and one with another encoder has the same base
learners. The inputs of these parts (rows, outcomes, patients, settings, seed) determine them, so the same input returns the cached part;
a changed input is fitted. ``clock`` adds the processor time saved, so that a fit costs as much as alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

_PARTS = (
    ("nearward.tabular.ensemble.base_learners", "_fit_fold"),
    ("nearward.retrieval.neighbors.binary", "train_encoders"),
    ("nearward.retrieval.neighbors.binary", "fit_linear_metric"),
)
_cache: dict[bytes, tuple[Any, float]] = {}  # of one setting: a part, and its seconds
_saved = [0.0]


def clock() -> float:
    """Return processor seconds of all threads, including those saved by sharing."""
    return time.process_time() + _saved[0]


def clear_cache() -> None:
    """Drop the parts of a setting; the next has other rows."""
    _cache.clear()


@contextmanager
def shared() -> Iterator[None]:
    """Fit inside the block with parts shared."""
    places = [(import_module(module), name) for module, name in _PARTS]
    before = [getattr(module, name) for module, name in places]
    for (module, name), fit in zip(places, before, strict=True):
        setattr(module, name, _cached(fit))
    try:
        yield
    finally:
        for (module, name), fit in zip(places, before, strict=True):
            setattr(module, name, fit)


def _cached(fit: Callable[..., Any]) -> Callable[..., Any]:
    def fit_cached(*arguments: Any) -> Any:
        hasher = hashlib.sha256(fit.__qualname__.encode())
        _update(arguments, hasher)
        key = hasher.digest()
        if key in _cache:
            part, spent = _cache[key]
            _saved[0] += spent
            return part
        # a part of one fold is fitted by one thread beside others, the encoders by threads of their own
        seconds = time.process_time if threading.current_thread() is threading.main_thread() else time.thread_time
        began = seconds()
        part = fit(*arguments)
        _cache[key] = part, seconds() - began
        return part

    return fit_cached


def _update(value: Any, hasher: Any) -> None:
    """Add a value with all its parts to a hash, except the experts' own scores, which no base learner of a fold reads."""
    if isinstance(value, np.ndarray):
        hasher.update(f"{value.dtype}{value.shape}".encode())
        hasher.update(np.ascontiguousarray(value).tobytes())
    elif dataclasses.is_dataclass(value):
        hasher.update(type(value).__name__.encode())
        for field in dataclasses.fields(value):
            if (type(value).__name__, field.name) != ("EncodedRows", "user_scores"):
                _update(getattr(value, field.name), hasher)
    elif isinstance(value, tuple | list):
        hasher.update(f"({len(value)}".encode())
        for item in value:
            _update(item, hasher)
    else:
        assert value is None or isinstance(value, bool | int | float | str | np.generic), type(value)
        hasher.update(repr(value).encode())
