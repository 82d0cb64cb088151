"""``nearward transport``: printed tables, written page, JSON and risks."""

from __future__ import annotations

import json

import numpy as np
import polars as pl


def test_a_model_is_judged_at_each_site(nearward, tmp_path) -> None:
    rng = np.random.default_rng(0)
    age = rng.normal(60, 10, 800)
    died = np.where(rng.random(800) < 1 / (1 + np.exp(4 - age / 20)), "yes", "no")
    hospital = rng.choice(["A", "B", "C", "D"], 800)
    pl.DataFrame({"age": age, "ward": rng.choice(["x", "y"], 800), "hospital": hospital, "died": died}).write_csv(tmp_path / "cohort.csv")
    words = ("--outcome", "died", "--site", "hospital", "--model", "logistic", "--resamples", 100)
    files = ("--report", "transport.html", "--json", "transport.json", "--out", "risks.parquet")
    output = nearward("transport", "cohort.csv", *words, *files, cwd=tmp_path).stdout
    assert "800 rows of 800 patients judged" in output
    assert "hospital: D" in output
    assert "over sites" in output
    assert "worth using" in output
    assert "LogisticRegression" in (tmp_path / "transport.html").read_text()
    assert len(json.loads((tmp_path / "transport.json").read_text())["sites"]) == 4
    assert pl.read_parquet(tmp_path / "risks.parquet")["risk"].is_between(0, 1).all()
