"""Batch jobs, one function a file, and the command line made from their signatures."""
