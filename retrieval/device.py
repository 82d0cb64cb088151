"""The device of exact searches and of encoder training: a GPU where torch finds one, else the CPU."""

from __future__ import annotations

import logging
from functools import cache

import torch

_log = logging.getLogger(__name__)


@cache
def find_device() -> torch.device:
    """Return the GPU that torch uses by default, or the CPU; why there is no GPU is logged once.

    ``CUDA_VISIBLE_DEVICES=""`` keeps the work on the CPU.
    """
    if torch.version.cuda is None and torch.version.hip is None:
        reason = "this build of torch has no GPU code"
    elif not torch.cuda.is_available():
        reason = "torch finds none (driver, CUDA_VISIBLE_DEVICES)"
    else:
        try:
            torch.zeros(1, device="cuda").sum().item()
        except RuntimeError as error:
            reason = f"it does not work ({_first_line(error)})"
        else:
            _log.info("exact search and encoder training: on %s", torch.cuda.get_device_name())
            return torch.device("cuda")
    _log.info("exact search and encoder training: on the CPU; GPU: %s", reason)
    return torch.device("cpu")


def log_fallback(what: str, error: Exception) -> None:
    """Log that a piece of work failed on the GPU, and why, and is done on the CPU."""
    _log.warning("%s failed on the GPU and is done on the CPU: %s", what, _first_line(error))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
