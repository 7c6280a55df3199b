"""Image quality and temporal consistency metrics."""
