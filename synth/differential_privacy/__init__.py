"""Generators with differential privacy."""
