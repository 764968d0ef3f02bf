"""Floor 7: a page that shows what a model sees in a text."""
