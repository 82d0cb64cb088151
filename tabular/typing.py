"""Types that signatures name: arrays, and the callable that reports progress.

Docstrings give the shapes, ``x : (n, p)``; the ``Shapes:`` line of each module says what the letters stand for.
This module imports numpy alone: the trainer of the in-context network uses it, which is installed without the other dependencies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Floats32: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]
Ints32: TypeAlias = NDArray[np.int32]
Indices: TypeAlias = NDArray[np.intp]
Bools: TypeAlias = NDArray[np.bool_]
Values: TypeAlias = NDArray[Any]  # of any dtype: the classes of an outcome
Arrays: TypeAlias = dict[str, NDArray[Any]]  # by name: the tensors of an artifact
RandomState: TypeAlias = int | np.random.RandomState | np.random.Generator | None  # as in scikit-learn
Progress: TypeAlias = Callable[[str], None]  # takes a message after each step
