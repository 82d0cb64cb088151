"""Progress of a fit: to the caller's function or the console, and always to the log.

The library logs under ``nearward`` and is silent unless the program configures ``logging``.
"""

from __future__ import annotations

import logging

from nearward.tabular.typing import Progress


def logged(progress: int | Progress | None, name: str) -> Progress:
    """Return a function that logs each message under ``name`` at INFO, and hands it on.

    Parameters
    ----------
    progress : callable, or int
        As the parameter ``verbose``: called with each message; or 0 for silence, greater for ``print``.
    name : str, of the logger

    Examples
    --------
    >>> steps = []
    >>> logged(steps.append, "nearward.example")("stack")
    >>> steps
    ['stack']
    """
    logger = logging.getLogger(name)

    def report(message: str) -> None:
        logger.info("%s", message)
        if callable(progress):
            progress(message)
        elif progress:
            print(message)

    return report
