"""From scores to calibrated probabilities."""
