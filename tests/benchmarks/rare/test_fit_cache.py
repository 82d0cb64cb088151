"""The cache of shared parts of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nearward as nw
from benchmarks.rare import fit_cache


@pytest.mark.slow
def test_cached_parts_equal_those_of_a_fit_alone_and_count_their_time(clinic: Any) -> None:
    """Parts of an earlier fit do not change a model's risks, other rows are fitted anew, and the time saved is counted."""
    frame, died, patient_ids = (part[:340] for part in clinic)

    def fit(rows: slice = slice(None), **options: Any) -> nw.RiskClassifier:
        config = nw.EncoderConfig(steps=5)
        return nw.RiskClassifier(backbone=None, encoder=config, **options).fit(frame[rows], died[rows], groups=patient_ids[rows])

    expert = [nw.OneClass(steps=5)]
    alone = fit(experts=expert).predict_proba(frame)
    fit_cache.clear_cache()
    with fit_cache.shared():
        fit()
        before, parts = fit_cache.clock(), len(fit_cache._cache)
        cached = fit(experts=expert).predict_proba(frame)
        spent, saved = fit_cache.clock() - before, fit_cache._saved[0]
        assert len(fit_cache._cache) == parts == 11  # five folds' base learners and metrics, and the encoders, each fitted once
        np.testing.assert_array_equal(cached, alone)
        assert spent > saved > 0
        fit(slice(0, 320))
        assert len(fit_cache._cache) == 2 * parts
    fit_cache.clear_cache()
    assert not fit_cache._cache
