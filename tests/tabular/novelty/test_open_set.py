"""The unknown-patient gate: a class left out is result from the known, and false alarms come as declared."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from nearward.tabular.errors import InputError
from nearward.tabular.novelty.open_set import UnknownGate
from nearward.tabular.novelty.reciprocal_points import ReciprocalPoints, fit_reciprocal_points

MIDDLES = {"flu": (4.0, 0.0, 0.0), "copd": (-4.0, 0.0, 0.0), "chf": (0.0, 4.0, 0.0), "mi": (0.0, 0.0, 4.0)}
STRANGE = (0.5, 0.5, 0.5)  # between the known, each of whose columns it shares


def table(n: int = 800, seed: int = 0, kinds: tuple[str, ...] = tuple(MIDDLES)) -> tuple[pl.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    kind = rng.choice(kinds, n, p=None if len(kinds) != 4 else [0.7, 0.1, 0.1, 0.1])
    middle = np.array([MIDDLES.get(k, STRANGE) for k in kind])
    return pl.DataFrame(middle + rng.normal(size=(n, 3)), schema=["x", "y", "z"]), kind


def test_an_unknown_class_is_detected() -> None:
    frame, kind = table()
    gate = UnknownGate(random_state=1).fit(frame, kind)
    known, _ = table(seed=2)
    strange, _ = table(n=200, seed=3, kinds=("strange",))
    score = -np.append(gate.score_samples(known), gate.score_samples(strange))
    assert roc_auc_score(np.arange(1000) >= 800, score) > 0.9
    assert (gate.predict(strange) == -1).mean() > 0.5


def test_known_classes_are_predicted() -> None:
    frame, kind = table()
    new, truth = table(seed=2)
    result = UnknownGate().fit(frame, kind).gate(new)
    assert (result["class"].to_numpy() == truth).mean() > 0.95


@pytest.mark.parametrize("rate", [0.02, 0.2])
def test_false_alarms_come_as_declared(rate: float) -> None:
    frame, kind = table(n=3000)
    new, _ = table(n=3000, seed=4)
    raised = UnknownGate(false_alarms=rate, steps=60).fit(frame, kind).gate(new)["unknown"].mean()
    assert rate / 2 < raised < 1.6 * rate


def test_share_is_a_conformal_rank_and_the_alarm_follows_from_it() -> None:
    frame, kind = table(n=400)
    gate = UnknownGate(steps=20, false_alarms=0.1).fit(frame, kind)
    new, _ = table(n=100, seed=5)
    result, score, calibration = gate.gate(new), gate.score_samples(new), gate.fitted_.calibration_scores
    assert result["share"].to_numpy() == pytest.approx([(1 + (calibration <= s).sum()) / (len(calibration) + 1) for s in score])
    assert (result["unknown"].to_numpy() == (result["share"].to_numpy() <= 0.1)).all()
    assert (gate.predict(new) == np.where(result["unknown"], -1, 1)).all()
    assert (gate.decision_function(new) < 0).tolist() == result["unknown"].to_list()


def test_distance_by_hand() -> None:
    points = ReciprocalPoints(
        np.vstack([np.eye(2), np.zeros(2)]), np.vstack([np.eye(2), np.zeros(2)]), np.array([[0.0, 2.0], [3.0, 0.0]]), 1.0
    )
    distances = points.distances(np.array([[3.0, 4.0]]))
    assert distances == pytest.approx(np.array([[(9 + 4) / 2 - 4 / 5, 16 / 2 - 3 / 5]]))


def test_classes_are_weighted_equally() -> None:
    rng = np.random.default_rng(0)
    class_index = (np.arange(2000) < 40).astype(np.int64)
    x = rng.normal(size=(2000, 2)) + 1.5 * class_index[:, None]
    points = fit_reciprocal_points(x, class_index, 8, 300, 0)
    predicted = points.distances(x).argmax(axis=1)
    assert (predicted[class_index == 1] == 1).mean() > 0.7  # unweighted, nearly all would be called the common class
    assert (predicted[class_index == 0] == 0).mean() > 0.7


def test_no_patient_is_in_both_training_and_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    frame, kind = table(n=400)
    patient = np.random.default_rng(0).integers(0, 100, 400)
    seen = {}

    def spy(x: np.ndarray, *rest: object) -> ReciprocalPoints:
        seen["rows"] = x
        return fit_reciprocal_points(x, *rest)

    monkeypatch.setattr("nearward.tabular.novelty.open_set.fit_reciprocal_points", spy)
    gate = UnknownGate(steps=2).fit(frame, kind, groups=patient)
    x = gate.fitted_.encoder.transform(frame)
    taught = (x[:, None] == seen["rows"][None]).all(axis=2).any(axis=1)
    assert len(gate.fitted_.calibration_scores) == (~taught).sum() > 0
    assert not set(patient[taught]) & set(patient[~taught])


def test_same_seed_same_gate_and_rows_alone_as_together() -> None:
    frame, kind = table(n=300)
    first, second, other = (UnknownGate(steps=10, random_state=s).fit(frame, kind).score_samples(frame) for s in (0, 0, 1))
    assert (first == second).all()
    assert not np.allclose(first, other)
    assert UnknownGate(steps=10).fit(frame, kind).score_samples(frame[7]) == pytest.approx(first[7], abs=1e-9)


def test_bad_input() -> None:
    frame, kind = table(n=300)
    with pytest.raises(InputError, match="false_alarms must lie"):
        UnknownGate(false_alarms=0).fit(frame, kind)
    for arguments in ({"width": 0}, {"steps": 0}, {"steps": 2.5}):
        with pytest.raises(InputError, match="must be a whole number from 1"):
            UnknownGate(**arguments).fit(frame, kind)
    with pytest.raises(InputError, match="one class only"):
        UnknownGate().fit(frame, np.zeros(300))
    with pytest.raises(InputError, match="1 classes have fewer than 10 rows"):
        UnknownGate().fit(frame, np.where(np.arange(300) < 3, "rare", kind))
    with pytest.raises(InputError, match=r"too few for false_alarms=0\.001"):
        UnknownGate(false_alarms=0.001).fit(frame, kind)
    with pytest.raises(InputError, match="missing"):
        UnknownGate().fit(frame, pl.Series([None, *kind[1:].tolist()]))
    with pytest.raises(InputError, match="299 values and the frame 300 rows"):
        UnknownGate().fit(frame, kind[1:])
