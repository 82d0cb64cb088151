"""
Judging two risks
=================

Two risks of the same patients: metrics with intervals, and the paired difference.
"""

import matplotlib.pyplot as plt
import numpy as np
import polars as pl

import nearward as nw

rng = np.random.default_rng(0)
ward = nw.datasets.ward(4000, seed=6)
truth = ward.true_risk.to_numpy()
shifted = 1 / (1 + np.exp(-(np.log(truth / (1 - truth)) + rng.normal(0.6, 1.2, len(truth)))))
scored = ward.table.select("patient", "died", "sex").with_columns(ours=pl.Series(np.clip(truth * rng.uniform(0.6, 1.5, len(truth)), 0, 1)),
                                                                  theirs=pl.Series(shifted))  # fmt: skip
comparison = nw.compare_risks(scored, outcome="died", risks=["ours", "theirs"], group="patient", resamples=200)
print(comparison.difference_table())

# %%
# Calibration by tenths of the risk: theirs is too high.
figure, axes = plt.subplots(figsize=(5, 4))
for name in ("ours", "theirs"):
    tenths = scored.group_by(pl.col(name).qcut(10, labels=[str(i) for i in range(10)])).agg(pl.col("died").mean(), risk=pl.col(name).mean())
    axes.loglog(tenths.sort("risk")["risk"], tenths.sort("risk")["died"], "o-", label=name)
axes.plot([1e-3, 1], [1e-3, 1], color="grey", linewidth=1)
axes.set(xlabel="mean risk", ylabel="observed share")
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
figure.tight_layout()
plt.show()
