"""The radiance field of one block, and its files."""
