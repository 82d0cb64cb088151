"""Exact samplers of discrete noise: whole numbers and fractions only, from a cryptographic source of random bits.

A Gaussian computed in floating point takes only some of the floating-point numbers, and which of them a noisy count can take depends on the
count itself; a generator such as PCG64 can be predicted from its output. Here every probability is a fraction, and the generator is the
operating system's (``secrets.SystemRandom``). The time that a sample takes is not hidden.

References
----------
Canonne, Kamath, Steinke: The discrete Gaussian for differential privacy (2020), algorithms 1 to 3.
Mironov: On significance of the least significant bits for differential privacy (2012).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from fractions import Fraction
from random import Random


def noise_source(seed: int | None = None) -> Random:
    """Return the operating system's generator; with a seed, for tests only, a reproducible one that protects nobody."""
    return secrets.SystemRandom() if seed is None else Random(seed)


def bernoulli_exp(numerator: int, denominator: int, source: Random) -> bool:
    """Return True with a probability of exp(-numerator / denominator), both from 0: algorithm 1."""
    while numerator > denominator:
        if not _bernoulli_exp_up_to_one(1, 1, source):
            return False
        numerator -= denominator
    return _bernoulli_exp_up_to_one(numerator, denominator, source)


def _bernoulli_exp_up_to_one(numerator: int, denominator: int, source: Random) -> bool:
    """Algorithm 1 for an exponent up to 1: the parity of the first failure among Bernoulli(exponent / k), k = 1, 2, …"""
    k = 1
    while source.randrange(denominator * k) < numerator:
        k += 1
    return k % 2 == 1


def discrete_laplace(scale: int, source: Random) -> int:
    """Return a whole number x with a probability proportional to exp(-|x| / scale): algorithm 2.

    Parameters
    ----------
    scale : int, from 1
    source : Random
    """
    while True:
        remainder = source.randrange(scale)
        if not bernoulli_exp(remainder, scale, source):
            continue
        quotient = 0
        while _bernoulli_exp_up_to_one(1, 1, source):
            quotient += 1
        negative, size = source.getrandbits(1), remainder + scale * quotient
        if size or not negative:  # zero has one sign
            return -size if negative else size


def discrete_gaussian(variance: Fraction, source: Random) -> int:
    """Return a whole number x with a probability proportional to exp(-x² / (2 variance)): algorithm 3.

    Parameters
    ----------
    variance : Fraction, above 0
    source : Random
    """
    scale = math.isqrt(variance.numerator // variance.denominator) + 1
    # (|x| - variance / scale)² / (2 variance), over one denominator
    denominator = 2 * variance.numerator * variance.denominator * scale**2
    while True:
        x = discrete_laplace(scale, source)
        excess = abs(x) * scale * variance.denominator - variance.numerator
        if bernoulli_exp(excess**2, denominator, source):
            return x


def exponential_choice(scores: Sequence[int], weight: Fraction, source: Random) -> int:
    """Return an index i with a probability proportional to exp(weight * scores[i]), by rejection.

    Parameters
    ----------
    scores : whole numbers, at least one
    weight : Fraction, from 0
    source : Random
    """
    highest = max(scores)
    while True:
        i = source.randrange(len(scores))
        if bernoulli_exp((highest - scores[i]) * weight.numerator, weight.denominator, source):
            return i
