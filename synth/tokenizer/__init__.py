"""Tables as tokens, and back."""
