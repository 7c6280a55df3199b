"""Errors a user can act on: each message says what is wrong, where, and what to do."""


class BlockNerfError(Exception):
    """Any error caused by input or environment; the command line prints it as one line and exits with 2."""


class OptionError(BlockNerfError):
    """A number given as an option is out of range."""


class CaptureError(BlockNerfError):
    """A capture (photographs, poses, masks, points) cannot be used as it is."""


class PlacementError(BlockNerfError):
    """Blocks cannot be placed, or do not cover the capture."""


class RunError(BlockNerfError):
    """A run folder or one of its files is missing, foreign or broken."""


class CheckpointError(RunError):
    """Saved weights or training state are corrupt, foreign or newer than this version."""


class TrainingError(BlockNerfError):
    """Training cannot start or had to stop."""


class BackendError(BlockNerfError):
    """A kernel backend asked for by name cannot be used here."""
