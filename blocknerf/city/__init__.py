"""A city of blocks: its manifest, and renderings blended from the blocks around a camera."""
