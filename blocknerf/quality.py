"""Quality presets."""

from typing import Literal, get_args

Preset = Literal["draft", "standard", "fine"]
"""`draft` takes minutes per block on a laptop, `standard` is for a GPU, `fine` for final results."""

PRESETS: tuple[Preset, ...] = get_args(Preset)
