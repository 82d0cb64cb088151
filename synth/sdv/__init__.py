"""SDV's synthesizers behind our interface."""
