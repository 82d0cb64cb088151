"""Indexes, neighbours and their vote."""
