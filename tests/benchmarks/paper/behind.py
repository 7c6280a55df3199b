"""PSNR behind moving cars, against images without cars: only there are ghosts measurable."""

from collections.abc import Sequence
from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.city.renderer import CityRenderer
from blocknerf.images import to_uint8
from blocknerf.metrics import mean_squared_to_psnr
from blocknerf.town.town import Town
from blocknerf.town.views import SampleSpec, plan_views
from pipelines.evaluate import EvalImage, render_eval_image


class EmptyTown:
    """Renderings of a sample without moving cars; each is cached."""

    def __init__(self, spec: SampleSpec) -> None:
        self.spec = spec
        self.town = Town.build(spec.seed, changed_building=spec.changed_building)
        views = plan_views(spec)
        self._views = {f"images/{view.name}.jpg": view for view in views}
        self._images: dict[str, Float[Tensor, "height width 3"]] = {}

    def image(self, name: str) -> Float[Tensor, "height width 3"]:
        """Return the image of this name without cars, from its true pose."""
        if name not in self._images:
            view, spec = self._views[name], self.spec
            pose = torch.tensor([view.pose], dtype=torch.float64)
            camera = Cameras.pinhole(pose, focal=spec.focal, width=spec.width, height=spec.height)
            rendering = self.town.render(
                camera, 0, view.drive.hour, view.exposure, supersample=isqrt(spec.samples_per_pixel)
            )
            self._images[name] = torch.from_numpy(to_uint8(rendering.color)).float() / 255.0
        return self._images[name]


def behind_cars(renderer: CityRenderer, images: Sequence[EvalImage], empty: EmptyTown) -> float | None:
    """Return the PSNR of all pixels that moving cars cover, against images without cars; None if there are none."""
    errors = []
    for image in images:
        if image.usable is not None and not bool(image.usable.all()):
            color = render_eval_image(renderer, image).color
            errors.append((color - empty.image(image.name))[~image.usable].square().mean(-1))
    return mean_squared_to_psnr(float(torch.cat(errors).mean())) if errors else None
