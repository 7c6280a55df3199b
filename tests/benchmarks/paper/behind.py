"""What stands behind moving cars: only there do photographs without them tell a clean street from one with ghosts."""

from collections.abc import Sequence
from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.city.renderer import CityRenderer
from blocknerf.images import to_uint8
from blocknerf.metrics.image_quality import mean_squared_to_psnr
from blocknerf.town.town import Town
from blocknerf.town.views import SampleSpec, plan_views
from pipelines.evaluate import EvalImage, render_eval_image


class EmptyTown:
    """The photographs of a sample as they would be if nothing moved; each is made once."""

    def __init__(self, spec: SampleSpec) -> None:
        self.spec = spec
        self.town = Town.build(spec.seed, changed_building=spec.changed_building)
        self._shots = {f"images/{shot.name}.jpg": shot for shot in plan_views(spec)}
        self._pictures: dict[str, Float[Tensor, "height width 3"]] = {}

    def photograph(self, name: str) -> Float[Tensor, "height width 3"]:
        """The photograph of that name, from where it was truly taken."""
        if name not in self._pictures:
            shot, spec = self._shots[name], self.spec
            pose = torch.tensor([shot.pose], dtype=torch.float64)
            camera = Cameras.pinhole(pose, focal=spec.focal, width=spec.width, height=spec.height)
            seen = self.town.render(
                camera, 0, shot.drive.hour, shot.exposure, supersample=isqrt(spec.samples_per_pixel)
            )
            self._pictures[name] = torch.from_numpy(to_uint8(seen.color)).float() / 255.0
        return self._pictures[name]


def behind_cars(renderer: CityRenderer, exams: Sequence[EvalImage], empty: EmptyTown) -> float | None:
    """PSNR over all pixels that moving cars cover in some photographs, against the town without them; None if none."""
    errors = []
    for exam in exams:
        if exam.usable is not None and not bool(exam.usable.all()):
            shown = render_eval_image(renderer, exam).color
            errors.append((shown - empty.photograph(exam.name))[~exam.usable].square().mean(-1))
    return mean_squared_to_psnr(float(torch.cat(errors).mean())) if errors else None
