"""Gain of an improvement by hand, and its interval clustered by patient."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.synth.optimization.account import paired_gain


def test_gain_by_hand() -> None:
    gain = paired_gain(np.array([1.0, 3.0]), None)
    # standard deviation √2, its error √2 / √2 = 1
    assert (gain.value, gain.low, gain.high) == pytest.approx((2.0, 2 - 1.96, 2 + 1.96))


def test_repeated_rows_of_a_patient_do_not_narrow_the_interval() -> None:
    gain = np.random.default_rng(0).normal(0.1, 1, 50)
    once, repeated = paired_gain(gain, None), paired_gain(np.repeat(gain, 6), np.repeat(np.arange(50), 6))
    assert (repeated.value, repeated.low, repeated.high) == pytest.approx((once.value, once.low, once.high))
    assert paired_gain(np.repeat(gain, 6), None).low > once.low
