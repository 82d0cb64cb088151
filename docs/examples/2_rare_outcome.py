"""
A rare outcome
==============

What a fit says when events are few: intervals are wide, and a linear metric takes the place of the encoders.
"""

import matplotlib.pyplot as plt

import nearward as nw

ward = nw.datasets.ward(2000, seed=2)
features = ["age", "systolic", "respiratory_rate", "temperature", "lactate", "albumin"]
past, new = ward.table[:600], ward.table[600:]
print(f"{past['died'].sum()} events in {past.height} stays")

model = nw.RiskClassifier(random_state=0, backbone=None).fit(past.select(features), past["died"], groups=past["patient"])
print(model.summary_.retrieval)

# %%
# The band is wide where few such scores were seen; it is narrower than a confidence interval.
scores = model.predict_frame(new.select(features)).sort("risk")
figure, axes = plt.subplots(figsize=(6, 3.5))
axes.fill_between(range(scores.height), scores["low"], scores["high"], alpha=0.3, label="band")
axes.plot(scores["risk"], label="risk")
axes.set(xlabel="stays, by risk", ylabel="risk")
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
figure.tight_layout()
plt.show()
