"""The fixture that compares results with golden.json, or writes them there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

FILE = Path(__file__).with_name("golden.json")
WRITE = os.environ.get("NEARWARD_GOLDEN") == "write"
ESTIMATE = ["value", "low", "high", "n"]  # an estimate is written as a list of these


def plain(value: Any, longest: int) -> Any:
    """Turn dictionaries, dataclasses, frames, arrays and numbers into JSON; floats get nine significant digits."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, pl.DataFrame):
        value = value.to_dict(as_series=False)
    elif isinstance(value, pl.Series | np.ndarray | np.generic):
        value = value.to_list() if isinstance(value, pl.Series) else value.tolist()
    if isinstance(value, Mapping):
        by_name = {str(key): plain(one, longest) for key, one in value.items()}
        return [by_name[name] for name in ESTIMATE] if set(by_name) == set(ESTIMATE) else by_name
    if isinstance(value, list | tuple):
        columns = _columns([plain(one, longest) for one in value])
        if isinstance(columns, dict):
            return {name: _short(column, longest) for name, column in columns.items()}
        return _short(columns, longest)
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _columns(values: list[Any]) -> list[Any] | dict[str, list[Any]]:
    """Turn records with the same names into columns: each name is written once."""
    if len(values) < 2 or not all(isinstance(value, dict) and list(value) == list(values[0]) for value in values):
        return values
    return {name: [value[name] for value in values] for name in values[0]}


def _short(values: list[Any], longest: int) -> Any:
    """Summarise a long list: of texts by a hash, of numbers or estimates by their mean, first and last."""
    if len(values) <= longest or any(isinstance(value, dict) for value in values):
        return values
    if any(isinstance(value, str) for value in values):
        return {"length": len(values), "sha256": hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]}
    flat = [one for value in values for one in (value if isinstance(value, list) else [value]) if isinstance(one, int | float)]
    mean = float(f"{np.mean(flat):.9g}") if flat else None
    return {"length": len(values), "mean": mean, "first": values[0], "last": values[-1]}


def differences(actual: Any, expected: Any, path: str) -> Iterator[str]:
    """Name every place where two plain values differ."""
    if isinstance(actual, dict) and isinstance(expected, dict):
        for key in dict.fromkeys([*expected, *actual]):
            if key not in actual or key not in expected:
                yield f"{path}.{key}: {'missing now' if key in expected else 'new'}"
            else:
                yield from differences(actual[key], expected[key], f"{path}.{key}")
    elif isinstance(actual, list) and isinstance(expected, list):
        if len(actual) != len(expected):
            yield f"{path}: {len(actual)} values now, {len(expected)} before"
        else:
            for at, (one, other) in enumerate(zip(actual, expected, strict=True)):
                yield from differences(one, other, f"{path}[{at}]")
    elif isinstance(actual, float) or isinstance(expected, float):
        number = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (actual, expected))
        if not number or actual != pytest.approx(expected, rel=1e-6, abs=1e-9):
            yield f"{path}: {actual!r} now, {expected!r} before"
    elif actual != expected or isinstance(actual, bool) is not isinstance(expected, bool):
        yield f"{path}: {actual!r} now, {expected!r} before"


def write(cases: Mapping[str, Any]) -> None:
    """Write the cases, a line for each part of a case."""
    lines = []
    dump = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))
    for name, case in sorted(cases.items()):
        parts = [f" {dump(key)}:{dump(part)}" for key, part in case.items()]
        lines.append(f"{dump(name)}:{{\n" + ",\n".join(parts) + "\n}")
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


@pytest.fixture
def golden(one_torch_thread: None) -> Callable[..., None]:
    """Compare a case with golden.json, or write it there where NEARWARD_GOLDEN=write; longer lists are summarised."""

    def check(name: str, parts: Mapping[str, Any], longest: int = 12) -> None:
        actual = json.loads(json.dumps(plain(parts, longest)))
        cases = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
        if WRITE:
            write({**cases, name: actual})
            return
        assert name in cases, f"golden.json has no case {name!r}"
        different = list(differences(actual, cases[name], name))
        assert not different, f"{len(different)} figures of {name!r} differ:\n" + "\n".join(different[:8])

    return check


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    """Let torch, BLAS and OpenMP use one thread: the order of sums is then the same on every machine."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)
