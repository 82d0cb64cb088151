"""What the synthesizer is given, checked."""
