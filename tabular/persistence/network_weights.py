"""Checks of a network's saved weights before the network is built."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from nearward.tabular.errors import ArtifactError


def check_weights(build: Callable[[], nn.Module], weights: Mapping[str, Any]) -> None:
    """Check that weights are those of a network, and finite, without allocating the network: its sizes come from the same file.

    Parameters
    ----------
    build : callable
        Builds the network; called on torch's meta device, where tensors have shapes but no memory.
    weights : arrays or tensors by name

    Raises
    ------
    ArtifactError
        Missing, additional or non-finite weights, or shapes of another network.

    Examples
    --------
    >>> check_weights(lambda: nn.Linear(10**9, 10**9), {"weight": np.zeros((2, 3)), "bias": np.zeros(2)})
    Traceback (most recent call last):
    nearward.tabular.errors.ArtifactError: the saved weights belong to another architecture: fit the model again
    """
    try:
        with torch.device("meta"), _at_most(2 * len(weights) + 10):
            expected = {name: tuple(value.shape) or (1,) for name, value in build().state_dict().items()}
        shapes = {name: tuple(value.shape) or (1,) for name, value in weights.items()}  # a number is saved as an array of one
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ArtifactError(f"the saved sizes describe no network ({type(error).__name__}): fit the model again") from error
    if shapes != expected:
        raise ArtifactError("the saved weights belong to another architecture: fit the model again")
    n_invalid = sum(not np.isfinite(np.asarray(value)).all() for value in weights.values())
    if n_invalid:
        raise ArtifactError(f"{n_invalid} of the network's {len(weights)} weight arrays hold NaN or infinite values: fit the model again")


@contextmanager
def _at_most(parameters: int) -> Iterator[None]:
    """Stop a network of more parameters: shapes cost no memory on the meta device, but a billion layers do."""
    thread, count = threading.get_ident(), 0

    def limit(*_: object) -> None:
        nonlocal count
        if threading.get_ident() == thread:
            count += 1
            if count > parameters:
                raise ValueError("more parameters than weights")

    handle = register_module_parameter_registration_hook(limit)
    try:
        yield
    finally:
        handle.remove()
