"""Improvement of the generator after its training: discriminators, rewards, optimizers."""
