"""
A synthetic table and its audit
===============================

A table that keeps the rare outcome and the clinical rules, and the card that decides whether it may leave.
"""

import nearward as nw

table = nw.datasets.ward(3000, seed=7).table
rows = table.select("patient", "age", "sex", "systolic", "diastolic", "creatinine", "urea", "died")
generator = nw.Synthesizer(seed=0).fit(rows, outcome="died", groups="patient")
print(f"{len(generator.rules.enforced)} mined rules hold in every row")
print(generator.sample(500, where={"died": 1}).head(3))

# %%
# The audit attacks the table as an adversary would. On so few rows most parts are not measurable, and then nothing leaves.
verdict = nw.audit(generator.sample(2000), generator.audit_rows, generator.rules)
for part in verdict.card.components.values():
    print(f"{part.letter}  {part.name:22} {part.status}")
print("may leave" if not verdict.missed else "may not leave")
