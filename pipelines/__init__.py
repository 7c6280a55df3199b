"""Batch jobs, one function a file, and the command line made from their signatures."""

# Before any job loads torch, so that thread pools wait passively also when a job is called from Python.
import blocknerf.kernels.threads  # noqa: F401
