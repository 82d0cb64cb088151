"""
Your own score as an expert
===========================

A clinical score that a hospital trusts, such as NEWS2, enters the stack as a base learner of its own.
"""

import matplotlib.pyplot as plt
import polars as pl

import nearward as nw

table = nw.datasets.ward(1200, seed=4).table.with_columns(
    score=(pl.col("respiratory_rate") > 20).cast(pl.Int64) * 2 + (pl.col("systolic") < 105).cast(pl.Int64) * 3 + (pl.col("age") > 80)
)
features = ["age", "sex", "lactate", "albumin", "creatinine", "score"]
past, new = table[:900], table[900:]
model = nw.RiskClassifier(random_state=0, backbone=None, experts=["score"])
model.fit(past.select(features), past["died"], groups=past["patient"])

# %%
# What the stack weighs, and how each part ranks out of fold.
learners = model.summary_.out_of_fold.base_learners
names = sorted(learners, key=lambda name: learners[name].weight)
figure, axes = plt.subplots(figsize=(6, 4))
axes.barh(names, [learners[name].weight for name in names])
axes.set_xlabel("weight in the stack")
figure.tight_layout()
plt.show()
print(f"the score alone: AUPRC {learners['expert: score'].auprc:.3f}; the stack: {model.summary_.out_of_fold.auprc:.3f}")
