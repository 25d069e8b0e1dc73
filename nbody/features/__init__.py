"""What a network sees of a state."""
