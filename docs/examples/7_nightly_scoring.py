"""
Nightly scoring
===============

Save a model, load it elsewhere, score new rows, and look for rows and columns unlike those it learned from.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import nearward as nw

table = nw.datasets.ward(1400, seed=8).table
features = ["age", "sex", "systolic", "respiratory_rate", "lactate", "creatinine"]
with tempfile.TemporaryDirectory() as folder:
    past = table[:700]
    nw.RiskClassifier(random_state=0, backbone=None).fit(past.select(features), past["died"], groups=past["patient"]).save(
        Path(folder) / "model"
    )
    model = nw.load(Path(folder) / "model")  # files are hashed; loading executes nothing

tonight = table[700:].with_columns(creatinine=table[700:]["creatinine"] * 3)  # another unit, by mistake
usual, unusual = (model.predict_frame(rows.select(features)) for rows in (table[700:], tonight))
for name, scores in {"usual": usual, "another unit": unusual}.items():
    print(f"{name}: {(scores['novelty'] > 0.99).mean():.1%} of the rows lie outside the training population (1 % expected)")

# %%
figure, axes = plt.subplots(figsize=(5, 3.5))
axes.hist([usual["novelty"], unusual["novelty"]], bins=20, label=["usual", "another unit"])
axes.set(xlabel="novelty", ylabel="rows")
axes.legend(loc="upper left")
plt.show()
