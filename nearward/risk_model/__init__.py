"""The risk model behind RiskClassifier."""
