"""Rules that synthetic rows keep."""
