"""Validation of the synthesizer's inputs, and their split by role."""
