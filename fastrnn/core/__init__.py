"""Floor 0: what every other floor rests on."""
