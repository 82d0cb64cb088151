"""Risk models of time-stamped events: features, risk model and timelines in one estimator."""
