"""Control panel of one client: appearance, rendering and block settings."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

import viser

from blocknerf.cameras import Cameras
from blocknerf.city.manifest import WEIGHTINGS, Weighting
from blocknerf.city.renderer import MAX_BLOCKS
from blocknerf.errors import BlockNerfError, RunError, one_of
from viewer.block_files import BlockInfo, block_info_table
from viewer.client_camera import clamp_finite
from viewer.markup import STYLE, paragraph
from viewer.minimap import draw_minimap, selection_table
from viewer.request_renderer import LAYERS, RenderedImage, RenderRequest
from viewer.run_contents import UNMATCHED_PREFIX, RunContents

RESOLUTIONS = (180, 270, 360, 540, 720, 1080)
"""Image heights to choose from, in pixels."""
DEFAULT_RESOLUTION = 360
MAX_STOPS = 4.0
"""Range of the exposure slider to either side, in stops (powers of two)."""
POWER_RANGE, THRESHOLD_RANGE, MAX_BLOCKS_LIMIT = (0.5, 16.0), (0.0, 0.495), 8
"""Ranges of the inverse-distance power and the visibility threshold, and the upper limit of "Max blocks"."""
NO_BLEND = "nothing"
MOBILE_PANEL_CSS = '<style>div[style*="max-height: 60%"] { max-height: 38% !important; }</style>'
"""On a narrow page viser's panel covers the lower 60 %, and viser has no setting for that."""
MAX_FAULTS = 4
"""Faulty files to list."""
MAX_HIDDEN_CHARS = 10_000
"""Characters of the "Hide blocks" field that are read."""


class ControlPanel:
    """Inputs of the panel, and the render request they add up to."""

    def __init__(
        self,
        client: viser.ClientHandle,
        contents: RunContents,
        on_change: Callable[[], None],
        go_to_block: Callable[[str], None],
    ) -> None:
        """Add the controls to the panel.

        Args:
            client: The client's page.
            contents: What the run contains.
            on_change: Called when a new rendering is needed.
            go_to_block: Called with the name of a block to move the camera to.
        """
        self._contents, self._on_change, self._go_to_block = contents, on_change, go_to_block
        self._names = {block.name for block in contents.city.blocks}
        gui = client.gui
        self._minimap = gui.add_html("")
        hint = "Enter a block name, or click a block on the map"
        self._target = gui.add_text("Go to block", "", hint=hint)  # must follow the minimap: its clicks fill this
        self._target.on_update(lambda _: self._submit_target())
        self._faults = dict.fromkeys(contents.faults)
        self._warnings = gui.add_html(self._faults_html(), visible=bool(self._faults))
        with gui.add_folder("Appearance"):
            can_blend = len(contents.preset_names) > 1
            self._appearance = self._input(gui.add_dropdown("Appearance", contents.appearance_options))
            self._blend_to = self._input(
                gui.add_dropdown("Blend to", (NO_BLEND, *contents.preset_names), visible=can_blend)
            )
            self._blend = self._input(gui.add_slider("Blend amount", 0.0, 1.0, 0.01, 0.0, visible=can_blend))
            hint = "Videos blend from the first preset to the second; otherwise they use the blend amount set here"
            self._blend_along = gui.add_checkbox("Blend along the video", False, visible=can_blend, hint=hint)
            self._auto_exposure = self._input(gui.add_checkbox("Auto exposure", True))
            hint = "In stops (powers of two) relative to the median exposure of the images"
            self._stops = self._input(gui.add_slider("Exposure", -MAX_STOPS, MAX_STOPS, 0.1, 0.0, hint=hint))
        with gui.add_folder("Rendering"):
            self._layer = self._input(gui.add_dropdown("Output", LAYERS))
            heights = tuple(f"{height}p" for height in RESOLUTIONS)
            self._resolution = self._input(
                gui.add_dropdown("Resolution", heights, initial_value=f"{DEFAULT_RESOLUTION}p")
            )
        with gui.add_folder("Blocks"):
            city, upper = contents.city, max(2, min(MAX_BLOCKS_LIMIT, len(contents.city.blocks)))
            self._weighting = self._input(gui.add_dropdown("Weighting", WEIGHTINGS, initial_value=city.weighting))
            self._power_range = min(POWER_RANGE[0], city.power), max(POWER_RANGE[1], city.power)
            self._power = self._input(gui.add_slider("Power", *self._power_range, 0.5, city.power))
            self._max_blocks_input = self._input(gui.add_slider("Max blocks", 1, upper, 1, min(MAX_BLOCKS, upper)))
            threshold = clamp_finite(city.visibility_threshold, *THRESHOLD_RANGE)
            self._threshold = self._input(gui.add_slider("Visibility threshold", *THRESHOLD_RANGE, 0.005, threshold))
            hint = "Block names, separated by spaces"
            self._hide_blocks = self._input(gui.add_text("Hide blocks", "", hint=hint))
            self._selection_table, self._block_info = gui.add_html(""), gui.add_html("")
        self._notice = gui.add_html("", visible=False)
        gui.add_html(MOBILE_PANEL_CSS + STYLE)

    @property
    def resolution(self) -> int:
        """Height of a full-resolution rendering, in pixels."""
        return RESOLUTIONS[tuple(f"{height}p" for height in RESOLUTIONS).index(self._resolution.value)]

    def render_options(self) -> list[str]:
        """Return the settings of the panel as options of `blocknerf render`.

        Raises:
            RunError: The run has no such appearance preset, segment or weighting.
        """
        settings = {
            "weighting": self.weighting,
            "power": self._clamped_power,
            "selection-radius": self._contents.city.selection_radius,
            "visibility-threshold": self._clamped_threshold,
            "max-blocks": self._max_blocks,
            **self._appearance_options(),
            **({} if self.exposure is None else {"exposure": self.exposure}),
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        hidden = self._contents.hidden(self._hidden_names)
        return options + (["--hide", *hidden] if hidden else [])

    def _appearance_options(self) -> dict[str, object]:
        """Options of the chosen appearance, validated: a page can send any value."""
        name, end = self._appearance.value, self._blend_to.value
        if name in self._contents.preset_names and end != NO_BLEND:
            self._contents.appearance(name, end, None)
            return {"appearance": name, "appearance-end": end} | (
                {} if self._blend_along.value else {"mix": self._clamped_blend}
            )
        if name in self._contents.preset_names:
            return {"appearance": name}
        options = self._contents.appearance_options
        if name not in options:
            raise RunError(f"view: no appearance {name!r}; choose one of {', '.join(options)}")
        return {"codes-of": name.removeprefix(UNMATCHED_PREFIX)}

    @property
    def weighting(self) -> Weighting:
        """How blocks are weighted.

        Raises:
            RunError: The page sent an unknown weighting.
        """
        return one_of(self._weighting.value, WEIGHTINGS, "view: weighting")

    @property
    def exposure(self) -> float | None:
        """Exposure in the capture's unit; None for auto exposure."""
        if self._auto_exposure.value:
            return None
        return self._contents.exposure * 2.0 ** clamp_finite(self._stops.value, -MAX_STOPS, MAX_STOPS)

    def render_request(self, view: Cameras) -> RenderRequest:
        """Return the panel's settings as a request for this camera.

        Raises:
            RunError: There is no such appearance preset or weighting.
        """
        contents = self._contents
        name, end = self._appearance.value, self._blend_to.value
        blends = end != NO_BLEND and name in contents.preset_names
        return RenderRequest(
            view=view,
            appearance=contents.appearance(name, end if blends else None, self.exposure),
            blend=self._clamped_blend,
            city=contents.with_overrides(self._hidden_names, self._clamped_power, self._clamped_threshold),
            weighting=self.weighting,
            max_blocks=self._max_blocks,
            layer=self._layer.value,
        )

    @property
    def _hidden_names(self) -> frozenset[str]:
        return frozenset(self._hide_blocks.value[:MAX_HIDDEN_CHARS].split())

    @property
    def _clamped_power(self) -> float:
        return clamp_finite(self._power.value, *self._power_range)

    @property
    def _clamped_threshold(self) -> float:
        return clamp_finite(self._threshold.value, *THRESHOLD_RANGE)

    @property
    def _clamped_blend(self) -> float:
        return clamp_finite(self._blend.value, 0.0, 1.0)

    @property
    def _max_blocks(self) -> int:
        return int(clamp_finite(self._max_blocks_input.value, 1, MAX_BLOCKS_LIMIT))

    def show_result(self, rendering: RenderedImage) -> None:
        """Show the map and the state of the blocks around the camera of a rendering."""
        self._minimap.content = draw_minimap(self._contents, rendering.selection, rendering.camera)
        self._selection_table.content = selection_table(rendering.selection)
        names = sorted(block.name for block in rendering.selection)
        self._block_info.content = block_info_table(self._contents.run, names)
        self._warn(fault for name in names if (fault := BlockInfo.of(self._contents.run, name).fault) is not None)
        self._notice.visible = False

    def show_error(self, error: Exception) -> None:
        """Show why rendering failed. An unexpected error goes to the server's terminal only."""
        expected = isinstance(error, BlockNerfError)
        if not expected:
            logging.getLogger(__name__).error("rendering failed", exc_info=error)
        reason = self._contents.redact_paths(error) if expected else "see the server's terminal"
        self._notice.content = paragraph(reason, "Rendering failed:")
        self._notice.visible = True

    def _warn(self, faults: Iterable[str]) -> None:
        new = [fault for fault in faults if fault not in self._faults]
        if new:
            self._faults.update(dict.fromkeys(new))
            self._warnings.content, self._warnings.visible = self._faults_html(), True

    def _faults_html(self) -> str:
        """Return the broken or outdated files as HTML, without the server's folders."""
        listed = [
            paragraph(self._contents.redact_paths(fault), "Not used:") for fault in list(self._faults)[:MAX_FAULTS]
        ]
        more = len(self._faults) - len(listed)
        return "".join(listed) + (paragraph(f"And {more} more: see the server's terminal.") if more else "")

    def _submit_target(self) -> None:
        name = self._target.value.strip()
        if name in self._names:
            self._target.value = ""  # type: ignore[misc]  # so that the same block can be clicked again
            self._go_to_block(name)

    def _input(self, element: Any) -> Any:
        @element.on_update
        def _(_: object) -> None:
            self._on_change()

        return element
