"""Fits of archives that memory does not hold: plan, memory, work folder, resume."""
