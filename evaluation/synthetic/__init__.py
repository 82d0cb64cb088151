"""The FAITH-style card of a synthetic table."""
