"""Clinical rules: what they are, how they are mined, how they are written."""
