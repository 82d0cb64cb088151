"""DISCO-TAB-style synthetic tables. Empty for now: the synthesizer is not written yet."""
