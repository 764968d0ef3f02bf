"""Floor 0: what all other floors use."""
