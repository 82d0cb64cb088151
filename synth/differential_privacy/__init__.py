"""Generation with differential privacy."""
