"""Importers: one module per kind of source, each returns a `Capture`. `recognition` chooses among them."""
