"""Floor 4: scores and samples."""
