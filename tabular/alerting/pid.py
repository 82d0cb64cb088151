"""A PID controller that does not wind up: an error in, a setting within limits out.

References
----------
Åström, Hägglund: Advanced PID control (2006), on integrator windup and conditional integration.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class PID:
    """Proportional, integral and derivative action; the one thing in this package that remembers on purpose.

    While the setting stands at a limit, errors that push it further are not summed: the sum would have to be worked off again, error by
    error, after the cause is gone.

    Parameters
    ----------
    start : float
        The setting as long as nothing was off.
    low, high : float
        Limits of the setting.
    proportional, integral, derivative : float, not negative
        Units of the setting for a unit of error, of the summed error, of its change. A positive error raises the setting.
    total, last : float
        The errors' sum, and the last one: what it remembers.

    Examples
    --------
    >>> pid = PID(start=0.0, low=-1.0, high=1.0, proportional=0.5, integral=0.5, derivative=0.0)
    >>> pid.step(0.5), pid.step(0.5)
    (0.5, 0.75)
    """

    start: float
    low: float
    high: float
    proportional: float
    integral: float
    derivative: float
    total: float = 0.0
    last: float = 0.0

    def step(self, error: float) -> float:
        """Take in the error of one more interval and return the setting for the next."""
        total = self.total + error
        wanted = self.start + self.proportional * error + self.integral * total + self.derivative * (error - self.last)
        setting = min(max(wanted, self.low), self.high)
        if (wanted - setting) * error <= 0:  # else it is at a limit, and the error pushes on
            self.total = total
        self.last = error
        return setting
