"""The fitted attributes of ``RiskClassifier``: all are read from one object, so that a fit changes them at once.

Shapes: c classes, d columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from nearward.risk_model.persistence import FittedState
from nearward.risk_model.summary import FitSummary
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.validation import UNKNOWN_EVENT
from nearward.tabular.errors import InputError


class FittedAttributes:
    """Mixin of the attributes that scikit-learn and users read."""

    fitted_: FittedState

    @property
    def classes_(self) -> NDArray[Any]:
        """The outcome's values (c,), in increasing order; the columns of ``predict_proba`` have this order."""
        return self.fitted_.classes

    @property
    def event_(self) -> Any:
        """The outcome value whose risk is estimated, or a tuple of several; None where each class has a risk."""
        return self.fitted_.event

    @property
    def n_features_in_(self) -> int:
        """Number of columns of the training frame."""
        return len(self.fitted_.columns)

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Column names of the training frame (d,), where it had names."""
        if not self.fitted_.feature_names:
            raise AttributeError("feature_names_in_: the training data had no column names")
        return np.array(self.fitted_.feature_names, dtype=object)

    @property
    def schema_(self) -> Schema:
        """The columns' roles and kinds."""
        return self.fitted_.schema

    @property
    def schema_names(self) -> list[str]:
        """Names of the schema's columns, in order."""
        return [column.name for column in self.schema_.columns]

    @property
    def summary_(self) -> FitSummary:
        """Summary of the training; its figures are out of fold."""
        return self.fitted_.summary

    def _require_event(self) -> None:
        check_is_fitted(self, "fitted_")
        if len(self.classes_) == 2 and self.event_ is None:
            raise InputError(UNKNOWN_EVENT)
