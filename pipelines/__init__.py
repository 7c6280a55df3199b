"""Batch jobs, one function per module, and the command line made from their signatures."""

# Before any job imports torch, so that thread pools wait passively, also if a job is called from Python.
import blocknerf.kernels.threads  # noqa: F401
