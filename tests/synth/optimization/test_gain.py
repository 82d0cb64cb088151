"""What an improvement won, by hand, and that a patient's rows are one piece of evidence."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.synth.optimization.gain import paired


def test_gain_by_hand() -> None:
    gain = paired(np.array([1.0, 3.0]), None)
    # standard deviation √2, its error √2 / √2 = 1
    assert (gain.value, gain.low, gain.high) == pytest.approx((2.0, 2 - 1.96, 2 + 1.96))


def test_rows_that_repeat_a_patient_add_no_certainty() -> None:
    won = np.random.default_rng(0).normal(0.1, 1, 50)
    once, repeated = paired(won, None), paired(np.repeat(won, 6), np.repeat(np.arange(50), 6))
    assert (repeated.value, repeated.low, repeated.high) == pytest.approx((once.value, once.low, once.high))
    assert paired(np.repeat(won, 6), None).low > once.low
