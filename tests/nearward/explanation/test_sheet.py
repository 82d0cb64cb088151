"""One patient's page where the outcome has several classes; that of two is tested with the other pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

import nearward as nw


def test_a_model_of_classes_has_no_event_on_the_page(clinic: tuple[pl.DataFrame, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    rows, outcome = clinic[0][:120], np.where(clinic[1][:120], "died", np.where(np.arange(120) % 2, "home", "ward"))
    model = nw.RiskClassifier(folds=2, backbone=None, encoder=nw.EncoderConfig(steps=2)).fit(rows, outcome)
    nw.patient_sheet(model, clinic[0][300:301], tmp_path / "sheet.html", permutations=4)
    page = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    assert "120 rows of 120 patients, in 3 classes" in page
    assert "with the event (" not in page
