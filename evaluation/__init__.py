"""Evaluation of risks and of synthetic tables; nothing here imports torch."""
