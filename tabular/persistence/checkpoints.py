"""Checkpoints: results of long steps, saved once, so that a program that was killed does not compute them again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Checkpoints(Protocol):
    """A place for the results of named steps."""

    def remembered(self, name: str, types: tuple[type, ...], compute: Callable[[], Any]) -> Any:
        """Return a step's saved result, or compute and save it; either way as ``unpack`` returns it.

        Parameters
        ----------
        name : str
        types : the dataclasses that the result contains
        compute : callable
        """


def remembered(checkpoints: Checkpoints | None, name: str, types: tuple[type, ...], compute: Callable[[], Any]) -> Any:
    """Return a step's result from checkpoints, where there are any.

    Examples
    --------
    >>> remembered(None, "sum", (), lambda: 1 + 1)
    2
    """
    return compute() if checkpoints is None else checkpoints.remembered(name, types, compute)
