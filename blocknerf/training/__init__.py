"""Train one block's field, independently of the other blocks."""
