"""Camera trajectories of videos."""
