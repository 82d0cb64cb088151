"""The in-context model: shipped weights, inference and pretraining (numpy and torch alone)."""
