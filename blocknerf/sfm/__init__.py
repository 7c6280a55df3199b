"""Structure from motion: poses, lenses and sparse points from photos or a video, computed by COLMAP."""
