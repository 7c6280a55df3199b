"""The web viewer of a trained city; it imports the library and nothing of the jobs."""
