"""Encoders that make patients with like outcomes near."""
