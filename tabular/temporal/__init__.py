"""Time series and windows of measurements."""
