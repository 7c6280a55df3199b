"""The one dial first: how much work a block is worth."""

from typing import Literal, get_args

Preset = Literal["draft", "standard", "fine"]
"""`draft` takes minutes a block on a laptop, `standard` is for a GPU, `fine` for final results."""

PRESETS: tuple[Preset, ...] = get_args(Preset)
