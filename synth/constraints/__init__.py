"""Rules that synthetic rows satisfy: discovery, checks, constrained sampling."""
