"""A PID controller with conditional integration (anti-windup).

References
----------
Åström, Hägglund: Advanced PID control (2006), on integrator windup and conditional integration.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class PID:
    """A PID controller with limits of its output; a mutable object that remembers the integral and the previous error.

    While the output is at a limit, errors that push it further are not integrated. Otherwise the integral would wind up, and the
    output would stay at the limit long after the cause has gone.

    Parameters
    ----------
    bias : float
        Output at zero error (manual reset).
    low, high : float
        Limits of the output.
    proportional, integral, derivative : float, not negative
        Gains: units of output per unit of error, of integrated error and of its change. A positive error raises the output.
    error_sum, last_error : float
        The state: the integrated error and the previous one.

    Examples
    --------
    >>> pid = PID(bias=0.0, low=-1.0, high=1.0, proportional=0.5, integral=0.5, derivative=0.0)
    >>> pid.step(0.5), pid.step(0.5)
    (0.5, 0.75)
    """

    bias: float
    low: float
    high: float
    proportional: float
    integral: float
    derivative: float
    error_sum: float = 0.0
    last_error: float = 0.0

    def step(self, error: float) -> float:
        """Take the error of one more interval and return the output for the next."""
        error_sum = self.error_sum + error
        unlimited = self.bias + self.proportional * error + self.integral * error_sum + self.derivative * (error - self.last_error)
        output = min(max(unlimited, self.low), self.high)
        if (unlimited - output) * error <= 0:  # not saturated in the direction of the error
            self.error_sum = error_sum
        self.last_error = error
        return output
