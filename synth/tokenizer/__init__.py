"""Tables as integer tokens, and back."""
