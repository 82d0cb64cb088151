"""The commands ``score`` and ``watch``: tables scored, and the runs compared over time."""
