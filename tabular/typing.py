"""Types that many signatures name: arrays by their dtype, and the progress callback.

Shapes stand in the docstring of each function, for instance ``outcome : (n,), 0 or 1``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Floats32: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
Arrays: TypeAlias = dict[str, NDArray[Any]]  # by name, as safetensors stores them
Progress: TypeAlias = Callable[[str], None]  # called with a few words after each piece of work
