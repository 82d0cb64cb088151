"""Statistics that the evaluations share."""
