"""
The toolbox for rare outcomes
=============================

Below ten events no risk is fitted. ``screen`` ranks patients for review from one event up; ``Resampled`` and ``OneClass`` are remedies to
compare, not defaults.
"""

import matplotlib.pyplot as plt

import nearward as nw

table = nw.datasets.ward(400, seed=9).table
features = ["age", "systolic", "respiratory_rate", "lactate", "albumin"]
few = (table["died"] == 1) & (table["age"] > 70)
screening = nw.screen(table.select(features), few, table["patient"], budget=0.1)
print(f"{screening.events} events; recall of the {screening.budget:.0%} first rows: {screening.recall}")

# %%
# The ranking puts known events first, each by a ranker that has not seen its patient.
ranked = screening.out_of_fold
events = few.gather(ranked["row"]).cast(int).cum_sum()
figure, axes = plt.subplots(figsize=(5, 3.5))
axes.plot(range(1, ranked.height + 1), events)
axes.set(xlabel="rows reviewed", ylabel="events found")
plt.show()

# %%
# Rebalanced training as a base learner, compared out of fold.
balanced = nw.Resampled(sampler="under", random_state=0).fit(table.select(features), table["died"])
risk = balanced.predict_proba(table.select(features))[:, 1]
print(f"mean risk of a rebalanced learner: {risk.mean():.3f}; share of events: {table['died'].mean():.3f}")
