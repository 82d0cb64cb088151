"""Frames, their encoding, cheap experts and honest probabilities: what every other package builds on."""
