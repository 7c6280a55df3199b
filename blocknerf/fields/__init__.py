"""The learned field of one block, and how it is kept on disk."""
