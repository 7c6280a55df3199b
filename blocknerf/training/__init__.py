"""Training one block, as if it were alone in the world."""
