"""
TabPFN, TabICL or a model of your own as backbone
=================================================

The in-context model can be another one. Its weights are yours: nothing is ever downloaded, and the message says where a file is searched.
"""

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
print(model.summary_.backbone)

# %%
# With a file of TabPFN's or TabICL's weights it is ``backbone=nw.TabPFNBackbone(model_path="…")``. Without one:
try:
    nw.RiskClassifier(backbone="tabpfn").fit(table.select(features), table["died"])
except nw.NearwardError as error:
    print(type(error).__name__)
