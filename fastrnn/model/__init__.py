"""Floor 5: models, and the files that hold them."""
