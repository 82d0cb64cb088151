"""Privacy attacks on a synthetic table."""
