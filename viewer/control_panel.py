"""The panel of one visitor: what is shown of the city, and how."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

import viser

from blocknerf.cameras import Cameras
from blocknerf.city.manifest import WEIGHTINGS, Weighting
from blocknerf.city.renderer import MAX_BLOCKS
from blocknerf.errors import BlockNerfError, RunError, one_of
from viewer.block_info import BlockInfo, block_info_table
from viewer.client_camera import clamp_finite
from viewer.markup import STYLE, paragraph
from viewer.minimap import draw_minimap, selection_table
from viewer.request_renderer import LAYERS, RenderedImage, RenderRequest
from viewer.run_contents import UNMATCHED_PREFIX, RunContents

RESOLUTIONS = (180, 270, 360, 540, 720, 1080)
"""Heights of finished pictures, in pixels, to choose from."""
DEFAULT_RESOLUTION = 360
STOPS = 4.0
"""How far the exposure goes to either side, in powers of two."""
POWERS, THRESHOLDS, MOST = (0.5, 16.0), (0.0, 0.495), 8
"""Of the inverse distance, of culling, and blocks in a picture: how far they can be set."""
NO_BLEND = "nothing"
MOBILE_PANEL_CSS = '<style>div[style*="max-height: 60%"] { max-height: 38% !important; }</style>'
"""On a narrow page viser's panel is a sheet at the bottom, open and 60 % high, which no setting of its changes."""
MAX_FAULTS = 4
"""Files with faults that are listed."""
MAX_LISTED = 10_000
"""Letters of the list of hidden blocks that are read."""


class Controls:
    """Elements of the panel, and what they say together."""

    def __init__(
        self,
        client: viser.ClientHandle,
        stock: RunContents,
        changed: Callable[[], None],
        go_to: Callable[[str], None],
    ) -> None:
        """Fill the panel.

        Args:
            client: The visitor's page.
            stock: What there is to show.
            changed: Called whenever another picture is wanted.
            go_to: Told the block that a visitor wants to be taken to.
        """
        self._contents, self._changed, self._go_to = stock, changed, go_to
        self._names = {block.name for block in stock.city.blocks}
        gui = client.gui
        self._minimap = gui.add_html("")
        hint = "The name of a block, or click at it on the plan"
        self._target = gui.add_text("Go to block", "", hint=hint)  # right after the plan, which fills it
        self._target.on_update(lambda _: self._leave_for())
        self._faults = dict.fromkeys(stock.faults)
        self._warnings = gui.add_html(self._listed_faults(), visible=bool(self._faults))
        with gui.add_folder("Appearance"):
            self._appearance = self._input(gui.add_dropdown("Appearance", stock.presets))
            self._blend_to = self._input(
                gui.add_dropdown("Blend to", (NO_BLEND, *stock.preset_names), visible=len(stock.preset_names) > 1)
            )
            self._blend = self._input(
                gui.add_slider("Blend amount", 0.0, 1.0, 0.01, 0.0, visible=len(stock.preset_names) > 1)
            )
            hint = "A video passes from the first to the second; else it shows the mix that is seen here"
            self._along = gui.add_checkbox(
                "Blend along the video", False, visible=len(stock.preset_names) > 1, hint=hint
            )
            known = stock.exposure is not None
            self._own = self._input(gui.add_checkbox("Auto exposure", True, visible=known))
            hint = "In powers of two from the photographs' middle one"
            self._stops = self._input(gui.add_slider("Exposure", -STOPS, STOPS, 0.1, 0.0, visible=known, hint=hint))
        with gui.add_folder("Rendering"):
            self._layer = self._input(gui.add_dropdown("Output", LAYERS))
            heights = tuple(f"{height}p" for height in RESOLUTIONS)
            self._budget = self._input(gui.add_dropdown("Resolution", heights, initial_value=f"{DEFAULT_RESOLUTION}p"))
        with gui.add_folder("Blocks"):
            city, most = stock.city, max(2, min(MOST, len(stock.city.blocks)))
            self._weighting = self._input(gui.add_dropdown("Weighting", WEIGHTINGS, initial_value=city.weighting))
            self._powers = min(POWERS[0], city.power), max(POWERS[1], city.power)
            self._power = self._input(gui.add_slider("Power", *self._powers, 0.5, city.power))
            self._max_blocks_input = self._input(gui.add_slider("Max blocks", 1, most, 1, min(MAX_BLOCKS, most)))
            threshold = clamp_finite(city.visibility_threshold, *THRESHOLDS)
            self._threshold = self._input(gui.add_slider("Visibility threshold", *THRESHOLDS, 0.005, threshold))
            hint = "Names with spaces between them"
            self._hidden = self._input(gui.add_text("Hide blocks", "", hint=hint))
            self._table, self._facts = gui.add_html(""), gui.add_html("")
        self._notice = gui.add_html("", visible=False)
        gui.add_html(MOBILE_PANEL_CSS + STYLE)

    @property
    def budget(self) -> int:
        """The height of a finished picture, in pixels."""
        return RESOLUTIONS[tuple(f"{height}p" for height in RESOLUTIONS).index(self._budget.value)]

    def render_options(self) -> list[str]:
        """What the panel shows, as options of `blocknerf render`.

        Raises:
            RunError: the run has no such look, segment or weighting.
        """
        shown = {
            "weighting": self.weighting,
            "power": self._clamped_power,
            "selection-radius": self._contents.city.selection_radius,
            "visibility-threshold": self._clamped_threshold,
            "max-blocks": self._max_blocks,
            **self._appearance_options(),
            **({} if self.exposure is None else {"exposure": self.exposure}),
        }
        options = [f"--{name}={value}" for name, value in shown.items()]
        hidden = self._contents.hidden(self._names_hidden)
        return options + (["--hide", *hidden] if hidden else [])

    def _appearance_options(self) -> dict[str, object]:
        """Which appearance the panel shows, checked: a page can say anything."""
        light, into = self._appearance.value, self._blend_to.value
        if light in self._contents.preset_names and into != NO_BLEND:
            self._contents.appearance(light, into, None)
            return {"appearance": light, "appearance-end": into} | (
                {} if self._along.value else {"mix": self._clamped_blend}
            )
        if light in self._contents.preset_names:
            return {"appearance": light}
        if light not in self._contents.presets:
            raise RunError(f"view: there is no light {light!r}; choose one of {', '.join(self._contents.presets)}")
        return {"codes-of": light.removeprefix(UNMATCHED_PREFIX)}

    @property
    def weighting(self) -> Weighting:
        """How blocks are weighed.

        Raises:
            RunError: the page says what is none of the ways.
        """
        return one_of(self._weighting.value, WEIGHTINGS, "view: weighting")

    @property
    def exposure(self) -> float | None:
        """In the capture's unit; None for that of the surroundings."""
        if self._own.value or self._contents.exposure is None:
            return None
        return self._contents.exposure * 2.0 ** clamp_finite(self._stops.value, -STOPS, STOPS)

    def render_request(self, view: Cameras) -> RenderRequest:
        """What the panel asks for, seen from there.

        Raises:
            RunError: there is no such look or weighting.
        """
        stock = self._contents
        light, into = self._appearance.value, self._blend_to.value
        passes = into != NO_BLEND and light in stock.preset_names
        return RenderRequest(
            view=view,
            appearance=stock.appearance(light, into if passes else None, self.exposure),
            blend=self._clamped_blend,
            city=stock.with_overrides(self._names_hidden, self._clamped_power, self._clamped_threshold),
            weighting=self.weighting,
            max_blocks=self._max_blocks,
            layer=self._layer.value,
        )

    @property
    def _names_hidden(self) -> frozenset[str]:
        return frozenset(self._hidden.value[:MAX_LISTED].split())

    @property
    def _clamped_power(self) -> float:
        return clamp_finite(self._power.value, *self._powers)

    @property
    def _clamped_threshold(self) -> float:
        return clamp_finite(self._threshold.value, *THRESHOLDS)

    @property
    def _clamped_blend(self) -> float:
        return clamp_finite(self._blend.value, 0.0, 1.0)

    @property
    def _max_blocks(self) -> int:
        return int(clamp_finite(self._max_blocks_input.value, 1, MOST))

    def show_result(self, picture: RenderedImage) -> None:
        """Show what became of the blocks around a camera."""
        self._minimap.content = draw_minimap(self._contents, picture.selection, picture.camera)
        self._table.content = selection_table(picture.selection)
        names = sorted(use.name for use in picture.selection)
        self._facts.content = block_info_table(self._contents.run, names)
        self._warn(fault for name in names if (fault := BlockInfo.of(self._contents.run, name).fault) is not None)
        self._notice.visible = False

    def show_error(self, error: Exception) -> None:
        """Say why there is no picture; what is no fault of the run's goes to the server's terminal whole."""
        own = isinstance(error, BlockNerfError)
        if not own:
            logging.getLogger(__name__).error("no picture", exc_info=error)
        why = self._contents.redact_paths(error) if own else "see the server's terminal"
        self._notice.content = paragraph(why, "No picture:")
        self._notice.visible = True

    def _warn(self, faults: Iterable[str]) -> None:
        new = [fault for fault in faults if fault not in self._faults]
        if new:
            self._faults.update(dict.fromkeys(new))
            self._warnings.content, self._warnings.visible = self._listed_faults(), True

    def _listed_faults(self) -> str:
        """Files that are broken or outdated, as HTML, without the folders of the server."""
        shown = [
            paragraph(self._contents.redact_paths(fault), "Not used:") for fault in list(self._faults)[:MAX_FAULTS]
        ]
        left = len(self._faults) - len(shown)
        return "".join(shown) + (paragraph(f"And {left} more: see the server's terminal.") if left else "")

    def _leave_for(self) -> None:
        name = self._target.value.strip()
        if name in self._names:
            self._target.value = ""  # type: ignore[misc]  # so that the same one can be clicked again
            self._go_to(name)

    def _input(self, element: Any) -> Any:
        @element.on_update
        def _(_: object) -> None:
            self._changed()

        return element
