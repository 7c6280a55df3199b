"""Web viewer of a trained city. Imports `blocknerf`, never `pipelines`."""
