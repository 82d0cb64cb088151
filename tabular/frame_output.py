"""Pandas out where it is asked for: ``set_output`` of scikit-learn's transformers, for all methods that return a Polars frame.

scikit-learn's own would make a pandas frame of Python objects of it.

Shapes: q rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, Self

import polars as pl

from nearward.tabular.errors import InputError, MissingPackage

_OUTPUTS = ("default", "polars", "pandas")
_P = ParamSpec("_P")


class FrameOutput:
    """An estimator whose methods marked by ``frame_output`` return the frames that ``set_output`` asked for."""

    _frame_output: str = "default"

    def set_output(self, *, transform: Literal["default", "polars", "pandas"] | None = None) -> Self:
        """Choose what frames are returned as, as scikit-learn's transformers do; not saved with the estimator, nor cloned.

        Parameters
        ----------
        transform : "default", "polars" or "pandas", optional
            The default is Polars; None leaves the choice as it is. A pandas frame with a row for each row of a pandas ``X`` has its index.

        Raises
        ------
        InputError
            Another word.
        MissingPackage
            pandas is not installed.
        """
        if transform is None:
            return self
        if transform not in _OUTPUTS:
            raise InputError(f"transform must be one of {list(_OUTPUTS)}, got transform={transform!r}")
        if transform == "pandas":
            _pandas()
        self._frame_output = transform
        return self


def frame_output(method: Callable[_P, pl.DataFrame]) -> Callable[_P, pl.DataFrame]:
    """Mark a method of ``FrameOutput`` whose frame is converted; its first argument is ``X``."""

    @functools.wraps(method)
    def converted(*args: _P.args, **kwargs: _P.kwargs) -> Any:
        frame = method(*args, **kwargs)
        if getattr(args[0], "_frame_output", "default") != "pandas" or not isinstance(frame, pl.DataFrame):
            return frame
        return to_pandas(frame, getattr(args[1] if len(args) > 1 else kwargs.get("X"), "index", None))

    return converted


def to_pandas(frame: pl.DataFrame, index: Any = None) -> Any:
    """Return a pandas frame (q rows) without pyarrow: null is NaN or None, a list an object; with ``index`` where it has q entries.

    Examples
    --------
    >>> to_pandas(pl.DataFrame({"risk": [0.1, None], "id": ["a", "b"]})).dtypes.astype(str).to_dict()
    {'risk': 'float64', 'id': 'object'}
    """
    own = index if index is not None and not callable(index) and len(index) == frame.height else None
    return _pandas().DataFrame({column.name: _values(column) for column in frame.iter_columns()}, index=own)


def _values(column: pl.Series) -> Any:
    return column.to_numpy() if not column.dtype.is_nested() else column.to_list()


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingPackage("pandas", 'set_output(transform="pandas") needs it', "pandas") from error
    return pandas
