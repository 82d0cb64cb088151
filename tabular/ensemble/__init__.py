"""Base learners, and the stack that weighs them."""
