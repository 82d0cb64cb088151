"""Real and synthetic tables as the card compares them."""
