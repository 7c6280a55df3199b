"""A city of blocks: its manifest, and pictures blended from the blocks around a camera."""
