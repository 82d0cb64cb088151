"""Rows unlike the training rows: one-class models and open-set detection."""
