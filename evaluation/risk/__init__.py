"""Evaluation of a risk."""
