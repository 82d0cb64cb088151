"""Alerts by voting: each stage by hand, planted specialists, and the risk that no stage changes."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from nearward.tabular.alerting.voting import STAGES, Alerts, _reliable_from
from nearward.tabular.ensemble.cross_fitting import EncodedClassifier
from nearward.tabular.errors import DataWarning, InputError, MissingColumns, TooFewEvents
from nearward.tabular.novelty.one_class import OneClass

NAMES = ["a", "b", "c", "d"]


def fitted(**arguments) -> Alerts:
    """Alerts of four members with a threshold of .2, fitted by hand."""
    alerts = Alerts(NAMES)
    attributes = {"threshold_": 0.2, "isolated_threshold_": np.array([0.7, np.inf, np.inf, np.inf]), "max_spread_": 3.2, "boost_": 1.5}
    attributes |= {"weight_": np.full(4, 0.25), "_best": 3, "_consensus_votes": 3}
    vars(alerts).update(attributes | arguments)
    return alerts


@pytest.mark.parametrize(
    ("risk", "stage", "alert"),
    [
        ([0.3, 0.2, 0.9, 0.4], "unanimous", True),  # a risk that equals the threshold votes for an alert
        ([0.1, 0.1, 0.1, 0.19], "unanimous", False),
        ([0.3, 0.3, 0.3, 0.01], "consensus", True),
        ([0.7, 0.1, 0.1, 0.1], "isolated", True),
        ([0.1, 0.7, 0.1, 0.1], "boosted vote", True),  # b never earned it; the vote is carried by the boost
        ([0.1, 0.7, 0.01, 0.01], "abstain", None),
        ([0.1, 0.3, 0.1, 0.1], "margin", False),
        ([0.1, 0.3, 0.1, 0.2], "margin", False),
    ],
)
def test_each_stage_by_hand(risk, stage, alert) -> None:
    (row,) = fitted().decide(pl.DataFrame([risk], schema=NAMES, orient="row")).iter_rows(named=True)
    assert (row["stage"], row["alert"]) == (stage, alert)
    assert row["risk"] == pytest.approx(np.mean(risk), abs=1e-15)
    assert row["votes"] == sum(value >= 0.2 for value in risk)


def test_fallback_is_the_best_members_vote() -> None:
    frame = pl.DataFrame([[0.24, 0.18, 0.17, 0.2], [0.2, 0.18, 0.17, 0.24], [0.23, 0.2, 0.18, 0.18]], schema=NAMES, orient="row")
    result = fitted(boost_=1.0, weight_=np.array([0.0, 0.5, 0.5, 0.0])).decide(frame)
    assert result["stage"].to_list() == ["fallback"] * 3
    assert result["alert"].to_list() == [True, True, False]


def test_stages_come_in_the_declared_order() -> None:
    assert STAGES == ("unanimous", "consensus", "isolated", "abstain", "boosted vote", "margin", "fallback")
    lone = pl.DataFrame([[0.99, 0.01, 0.01, 0.01]], schema=NAMES, orient="row")  # sure enough to alert, far enough to abstain
    assert fitted().decide(lone)["stage"].to_list() == ["isolated"]
    assert fitted(isolated_threshold_=np.full(4, np.inf)).decide(lone)["stage"].to_list() == ["abstain"]


def specialist(n: int, seed: int, ppv: float) -> tuple[pl.DataFrame, np.ndarray]:
    """Three members, one of which alone sees a sixth of the rows' danger, and is right there with this chance."""
    rng = np.random.default_rng(seed)
    seen = rng.random(n) < 1 / 6
    common = rng.beta(1, 12, n)
    event = rng.random(n) < np.where(seen, ppv, common)
    result = [np.clip(common * rng.uniform(0.8, 1.25, n), 0, 1) for _ in range(2)]
    return pl.DataFrame({"one": result[0], "two": result[1], "lone": np.where(seen, rng.uniform(0.5, 0.7, n), 0.5 * result[0])}), event


def test_a_reliable_specialist_may_alert_alone_and_an_unreliable_one_may_not() -> None:
    frame, event = specialist(3000, 0, 0.6)
    with pytest.warns(DataWarning, match="'one' expects"):  # blind to the sixth, it expects half of what happens
        honest = Alerts(["one", "two", "lone"], threshold=0.25).fit(frame, event)
    queries, _ = specialist(3000, 1, 0.6)
    result = honest.decide(queries)
    alone = (queries["lone"] >= 0.5) & (queries["one"] < 0.25) & (queries["two"] < 0.25)
    assert np.isfinite(honest.isolated_threshold_[2])
    assert result.filter(alone)["alert"].mean() > 0.95
    overconfident, rare = specialist(3000, 0, 0.1)  # says .5 to .7 where one of ten has the event
    unreliable = Alerts(["one", "two", "lone"], threshold=0.25).fit(overconfident, rare)
    assert np.isinf(unreliable.isolated_threshold_[2])


def test_alerts_beat_mean_and_threshold_where_a_specialist_is_outvoted() -> None:
    """Net benefit on fresh rows; the mean of three drowns the one that sees."""
    frame, event = specialist(3000, 0, 0.45)
    alerts = Alerts(["one", "two", "lone"], threshold=0.25, abstain=0).fit(frame, event)
    queries, truth = specialist(6000, 1, 0.45)

    def worth(raised: np.ndarray) -> float:
        return float(truth[raised].sum() - (~truth[raised]).sum() / 3) / len(truth)

    plain = queries.to_numpy().mean(axis=1) >= 0.25
    assert worth(alerts.predict(queries)) > worth(plain) + 0.005


def test_probability_is_the_plain_mean_whatever_the_settings() -> None:
    frame, event = specialist(1000, 2, 0.5)
    for arguments in ({}, {"threshold": 0.9}, {"ppv_floor": 0.01, "consensus": 0.34, "abstain": 0.3}):
        result = Alerts(["one", "two", "lone"], **arguments).fit(frame, event).decide(frame)
        np.testing.assert_array_equal(result["risk"].to_numpy(), frame.to_numpy().mean(axis=1))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1])
def test_no_more_rows_abstain_than_declared(share: float) -> None:
    rng = np.random.default_rng(3)
    risk = rng.beta(1, 8, (4000, 3))
    frame = pl.DataFrame(risk, schema=["x", "y", "z"], orient="row")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alerts = Alerts(["x", "y", "z"], abstain=share).fit(frame, rng.random(4000) < risk.mean(axis=1))
    abstained = (alerts.decide(frame)["stage"] == "abstain").mean()
    assert abstained <= share
    assert abstained > 0.8 * share or share == 0
    assert alerts.predict(frame)[(alerts.decide(frame)["stage"] == "abstain").to_numpy()].all()


def test_alerts_on_one_patient_are_one_observation() -> None:
    risk, event = np.linspace(0.5, 0.9, 40), np.ones(40, dtype=np.int64)
    assert _reliable_from(risk, event, np.arange(40), 0.5) == 0.5
    assert _reliable_from(risk, event, np.zeros(40, dtype=np.int64), 0.5) == np.inf
    lucky = np.zeros(40, dtype=np.int64)
    lucky[-4:] = 1
    assert _reliable_from(risk, lucky, np.arange(40), 0.01) == np.inf  # four events among the first ten are not enough
    assert _reliable_from(np.empty(0), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), 0.5) == np.inf


def test_classifiers_are_cross_fitted(clinic) -> None:
    """A member that knows its training rows by heart must not be believed for it."""
    frame, died, patient = clinic
    members = {
        "logistic": EncodedClassifier(LogisticRegression(max_iter=500)),
        "by heart": EncodedClassifier(HistGradientBoostingClassifier(min_samples_leaf=1, max_iter=40, early_stopping=False)),
    }
    alerts = Alerts(members, random_state=1).fit(frame[:500], died[:500], groups=patient[:500])
    result = alerts.decide(frame[500:])
    assert alerts.weight_[0] > 0.4  # in sample the other would rank perfectly
    assert result["risk"].mean() == pytest.approx(died[:500].mean(), abs=0.04)


def test_refusals() -> None:
    frame, event = specialist(200, 0, 0.5)
    with pytest.raises(InputError, match="at least two"):
        Alerts(["one"]).fit(frame, event)
    for members in (None, ["one", "one", "two"]):
        with pytest.raises(InputError, match="two different columns"):
            Alerts(members).fit(frame, event)
    with pytest.raises(InputError, match=r"\['silent'\] have no fit or no predict_proba"):
        Alerts({"loud": EncodedClassifier(LogisticRegression()), "silent": OneClass()}).fit(frame, event)
    with pytest.raises(InputError, match="text that is not one"):
        Alerts(["one", "two"]).fit(frame.with_columns(two=pl.lit("high")), event)
    with pytest.raises(MissingColumns, match="'two'"):
        Alerts(["one", "twoo"]).fit(frame, event)
    with pytest.raises(InputError, match=r"\['lone'\].*missing or outside"):
        Alerts(["one", "lone"]).fit(frame.with_columns(lone=pl.lit(None)), event)
    with pytest.raises(InputError, match="threshold must lie"):
        Alerts(["one", "two"], threshold=1.5).fit(frame, event)
    with pytest.raises(TooFewEvents):
        Alerts(["one", "two"]).fit(frame, np.arange(200) < 5)
    with pytest.raises(InputError, match=r"outcome has .* missing values"):
        Alerts(["one", "two"]).fit(frame, np.full(200, np.nan))
