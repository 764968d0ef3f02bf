"""Floor 2: texts, their symbols, and windows of them."""
