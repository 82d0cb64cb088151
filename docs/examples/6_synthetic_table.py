"""
A synthetic table and its audit
===============================

A table that keeps the rare outcome and the clinical rules, and the card that decides whether it may leave.
"""

import matplotlib.pyplot as plt

import nearward as nw

table = nw.datasets.ward(3000, seed=7).table
rows = table.select("patient", "age", "sex", "systolic", "diastolic", "creatinine", "urea", "died")
generator = nw.Synthesizer(seed=0).fit(rows, outcome="died", groups="patient")
print(f"{len(generator.rules.enforced)} mined rules hold in every row")
print(generator.sample(500, where={"died": 1}).head(3))

# %%
# How columns depend on each other is learned, not their distributions alone.
synthetic = generator.sample(rows.height)
figure, panels = plt.subplots(1, 2, figsize=(8, 3.5), sharex=True, sharey=True)
for axes, name, shown in zip(panels, ["real stays", "synthetic stays"], [rows, synthetic], strict=True):
    axes.plot(shown["systolic"], shown["diastolic"], ".", markersize=3)
    axes.set(title=name, xlabel="systolic pressure")
panels[0].set_ylabel("diastolic pressure")
plt.show()

# %%
# The audit attacks the table as an adversary would. On so few rows most parts are not measurable, and then nothing leaves.
verdict = nw.audit(generator.sample(2000), generator.audit_rows, generator.rules)
for part in verdict.card.components.values():
    print(f"{part.letter}  {part.name:22} {part.status}")
print("may leave" if not verdict.missed else "may not leave")
