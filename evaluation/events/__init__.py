"""Description of time-stamped events."""
