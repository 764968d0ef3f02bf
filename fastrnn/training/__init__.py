"""Floor 6: training."""
