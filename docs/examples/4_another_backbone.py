"""
TabPFN, TabICL or a model of your own as backbone
=================================================

The in-context model can be another one. Its weights are yours: nothing is ever downloaded, and the message says where a file is searched.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nearward as nw


class Linear:
    """Logistic regression on the retrieved patients."""

    name = "linear"

    def risks(self, context: np.ndarray, outcome: np.ndarray, query: np.ndarray) -> np.ndarray:
        """Return one probability for each query row."""
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(np.nan_to_num(context), outcome)
        return model.predict_proba(np.nan_to_num(query))[:, 1]


table = nw.datasets.ward(500, seed=5).table
features = ["age", "systolic", "lactate"]
model = nw.RiskClassifier(random_state=0, backbone=Linear()).fit(table.select(features), table["died"], groups=table["patient"])
# %%
# A backbone enters the risk only where the stack ranks clearly better with it, out of fold.
summary = model.summary_.backbone
auprc = {"backbone alone": summary.auprc, "stack without it": summary.auprc_without, "stack with it": summary.auprc_with}
figure, axes = plt.subplots(figsize=(5, 2))
axes.barh([*auprc], [*auprc.values()])
axes.set(xlabel="AUPRC, out of fold", title="in use" if summary.in_use else "not in use")
axes.invert_yaxis()
plt.show()

# %%
# With a file of TabPFN's or TabICL's weights it is ``backbone=nw.TabPFNBackbone(model_path="…")``. Without one:
try:
    nw.RiskClassifier(backbone="tabpfn").fit(table.select(features), table["died"])
except nw.NearwardError as error:
    print(f"{type(error).__name__}: {str(error).split(':')[0]}")
