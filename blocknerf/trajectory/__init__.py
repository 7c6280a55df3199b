"""Where a film's camera is at every moment."""
