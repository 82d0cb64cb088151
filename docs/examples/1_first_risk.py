"""
A first risk
============

Fit a risk on the stays of a made-up ward, read it, and see the patients that it rests on.
"""

import matplotlib.pyplot as plt

import nearward as nw

ward = nw.datasets.ward(1200, seed=0)  # your cohort instead; the true risks are known here
features = ["age", "sex", "unit", "systolic", "respiratory_rate", "lactate", "albumin", "immunosuppressed"]
past, new = ward.table[:900], ward.table[900:]

# %%
# ``groups`` keeps a patient's stays on one side of every split. ``backbone=None`` leaves out the in-context model: faster.
model = nw.RiskClassifier(random_state=0, backbone=None).fit(past.select(features), past["died"], groups=past["patient"])
scores = model.predict_frame(new.select(features))
print(scores.sort("risk", descending=True).head(3))

# %%
# The similar patients of the stay with the highest risk: their outcomes, their weights in the vote, and what differs.
highest = int(scores["risk"].arg_max())
print(model.similar(new[highest : highest + 1].select(features), k=5).select("weight", "outcome", "differs"))

# %%
# Risk and the true risk, which only a simulation knows.
figure, axes = plt.subplots(figsize=(5, 4))
axes.loglog(ward.true_risk[900:], scores["risk"], ".", alpha=0.6)
axes.plot([1e-4, 1], [1e-4, 1], color="grey", linewidth=1)
axes.set(xlabel="true risk", ylabel="estimated risk")
plt.show()
