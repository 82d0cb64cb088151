"""A model saved without records: no readable row in its files, nearly the same risks, and what it can no longer do."""

from __future__ import annotations

import numpy as np
import pytest

import nearward as nw
from nearward.adaptation.without_records import _rescaled
from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.ensemble.closed_form import KernelRegression
from nearward.tabular.errors import InputError


@pytest.fixture(scope="module")
def folder(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("without") / "m"
    fitted.save(folder, records=False)
    return folder


def test_no_row_is_left_and_risks_are_nearly_the_same(fitted, clinic, folder) -> None:
    frame = clinic[0][500:]
    light = nw.load(folder)
    state = light.fitted_
    assert state.records.width == 0
    assert len(state.patient_ids) == len(state.model.out_of_fold) == 0
    encoded = fitted.fitted_.model.encode(fitted.fitted_.records.select(fitted.schema_.named("feature", "expert"))).dense
    reference = state.model.base_learners.kernel[0].reference
    assert min(np.abs(encoded - row).max(axis=1).min() for row in reference) > 1e-6
    assert len(reference) <= len(encoded) / 5
    before, after = (model.predict_frame(frame) for model in (fitted, light))
    assert np.corrcoef(before["risk"], after["risk"])[0, 1] > 0.98
    assert abs(before["risk"].mean() - after["risk"].mean()) < 0.02
    assert after["vote"].equals(before["vote"])
    light.save(folder)  # as it is: it has none to add
    assert nw.load(folder).predict_frame(frame).equals(after)


def test_what_it_shows_and_refuses(fitted, clinic, folder) -> None:
    frame, died, _ = clinic
    light = nw.load(folder)
    similar = light.similar(frame[500:501], k=5)
    assert similar.columns == ["row", "rank", "weight", "outcome", "distance", "floored"]
    assert similar.equals(fitted.similar(frame[500:501], k=5).select(similar.columns))
    for what in (lambda: light.extend(frame[500:], died[500:]), lambda: light.forget(["1"]), light.refit, light.gate):
        with pytest.raises(InputError, match="saved without records"):
            what()


def test_means_of_near_references_keep_rows_and_outcomes() -> None:
    rng = np.random.default_rng(0)
    outcome = (rng.random(203) < 0.2).astype(float)
    full = KernelRegression(None, rng.normal(size=(203, 3)), outcome, np.full(203, 2.0), np.arange(203))
    means = full.aggregated(5)
    assert means.weight.sum() == 406
    assert (means.weight >= 10).all()
    assert (means.weight < 20).all()
    assert means.weight @ means.outcome == pytest.approx(2 * outcome.sum())
    assert means.neighbours == 6
    np.testing.assert_allclose(means.weight @ means.reference, 2 * full.reference.sum(axis=0))


def test_tokens_alone_predict_the_same() -> None:
    from nearward.retrieval.neighbors.voting import Context
    from nearward.risk_model.in_context import InContextModel, _ensemble_views
    from nearward.tabular.in_context.checkpoint import load_net

    rng = np.random.default_rng(1)
    features, outcome = rng.normal(size=(60, 4)), np.arange(60) % 4 == 0
    scores = rng.normal(size=(60, 3)) + outcome[:, None]
    model = InContextModel(load_net(), _ensemble_views(1, 4, 3, 0), features, scores, outcome)
    rows = np.tile(np.arange(30), (5, 1))
    context = Context(
        rows,
        np.full(rows.shape, 1 / 30),
        outcome[rows].astype(float),
        rng.random(rows.shape),
        np.zeros(rows.shape, bool),
        np.zeros(30, int),
    )
    light = InContextModel.from_state(model.without_rows().state())
    query = rng.normal(size=(5, 4)), rng.normal(size=(5, 3))
    np.testing.assert_allclose(light.predict(*query, [context])[0], model.predict(*query, [context])[0], rtol=1e-5)
    assert light.features.size == light.scores.size == 0


def test_scores_of_a_sample_are_rescaled_to_the_whole_table() -> None:
    rng = np.random.default_rng(1)
    old, times = rng.normal(size=60), rng.integers(1, 6, 60)
    new = 2 * old + rng.normal(size=60)
    calibrator = Calibrator(0.1, 1.2, 0.9, 0.8, -2.0)
    weighted = _rescaled(calibrator, old, new, times.astype(float))
    repeated = _rescaled(calibrator, np.repeat(old, times), np.repeat(new, times), None)
    assert weighted.log_odds(new) == pytest.approx(repeated.log_odds(new))
    assert weighted.centre != pytest.approx(_rescaled(calibrator, old, new, None).centre, abs=1e-3)
