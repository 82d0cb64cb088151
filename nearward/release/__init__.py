"""The audit and the release of synthetic tables."""
