"""The card of a fitted model: what is known of it filled in, and blanks for what only people know."""
