"""Honest verdicts on risks and on synthetic tables (no torch in here)."""
