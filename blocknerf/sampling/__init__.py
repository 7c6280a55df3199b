"""Placement of samples along rays."""
