"""Renderings of the town: exact distances, plausible lighting, reproducible bytes."""

import numba
import numpy as np
import pytest
import torch

from blocknerf.cameras import Cameras, RayBundle
from blocknerf.errors import CaptureError
from blocknerf.town.lighting import EXPOSURES, LIGHTINGS, TIMES_OF_DAY
from blocknerf.town.street_furniture import car
from blocknerf.town.town import Town


def rays(origins: list[tuple[float, float, float]], directions: list[tuple[float, float, float]]) -> RayBundle:
    along = torch.nn.functional.normalize(torch.tensor(directions, dtype=torch.float64), dim=-1)
    return RayBundle(
        origins=torch.tensor(origins, dtype=torch.float64),
        directions=along,
        pixel_radii=torch.full((len(along),), 1e-3).double(),
    )


def test_depth_is_exact_on_the_road_and_on_a_wall(town: Town) -> None:
    house = next(house for house in town.layout.buildings if house.south > 0 and house.west < 0 < house.east)
    steep = (0.0, 3.0, -4.0)
    up = (0.0, 1.0, 0.25)
    depth = town.measure(rays([(-1.0, 0.0, 2.0), (house.west + 0.3, 0.0, 3.4)], [steep, up]))
    assert depth[0].item() == pytest.approx(2.0 * 5.0 / 4.0)
    assert depth[1].item() == pytest.approx(house.south * (1 + 0.25**2) ** 0.5)


def test_a_ray_without_a_hit_has_infinite_depth_and_sees_the_sky(town: Town) -> None:
    result = town.raycast(rays([(0.0, 0.0, 2.0)], [(0.1, 0.1, 1.0)]), "noon", EXPOSURES["noon"])
    assert torch.isinf(result.depth).all()
    assert result.color[0, 2] > result.color[0, 0]


def test_renderings_do_not_depend_on_the_number_of_threads(town: Town, view: Cameras) -> None:
    before = numba.get_num_threads()
    renderings = []
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            again = town if threads == 1 else Town.build(0)
            renderings.append(again.render(view, 0, "noon", 400.0).color.numpy().tobytes())
    finally:
        numba.set_num_threads(before)
    assert len(set(renderings)) == 1


def test_seeds_give_different_towns() -> None:
    assert Town.build(1).layout.buildings != Town.build(0).layout.buildings


def test_longer_exposure_brightens_unsaturated_pixels(town: Town, view: Cameras) -> None:
    short, long = (town.render(view, 0, "overcast", exposure).color for exposure in (500.0, 800.0))
    dim = short < 0.98
    assert (long[dim] > short[dim]).all()
    assert (long >= short - 1e-6).all()


@pytest.mark.parametrize("hour", TIMES_OF_DAY)
def test_every_time_of_day_is_well_exposed(town: Town, view: Cameras, hour: str) -> None:
    color = town.render(view, 0, hour, EXPOSURES[hour]).color  # type: ignore[arg-type]
    assert 0.25 < color.mean().item() < 0.55
    assert color.std().item() > 0.12


def test_shadows_are_darker_only_under_the_sun(town: Town) -> None:
    spots = [(x, y, 0.0) for x in np.linspace(-15.0, 15.0, 31) for y in (-2.3, -0.8, 0.8, 2.3)]
    above = rays([(x, y, 1.2) for x, y, _ in spots], [(0.0, 0.0, -1.0)] * len(spots))
    sunward = rays([(x, y, 1e-3) for x, y, _ in spots], [LIGHTINGS["noon"].sun] * len(spots))
    lit = town.measure(sunward).isinf()
    noon, overcast = (town.raycast(above, hour, EXPOSURES[hour]).color.mean(-1) for hour in ("noon", "overcast"))
    assert 0.1 < lit.float().mean().item() < 0.9
    assert noon[lit].median() > 1.3 * noon[~lit].median()
    assert overcast[lit].median() < 1.3 * overcast[~lit].median()


def test_moving_cars_are_masked_occlude_and_cast_shadows(town: Town, view: Cameras) -> None:
    mover = list(car(-10.0, 1.6, 180.0, (0.4, 0.05, 0.05)))
    empty, busy = (town.render(view, 0, "noon", 400.0, cars=cars) for cars in ((), (mover,)))
    assert not empty.moving.any()
    assert 0.005 < busy.moving.float().mean().item() < 0.3
    nearer = busy.depth < empty.depth - 0.1
    assert nearer.any()
    assert busy.moving[nearer].all()
    static = ~busy.moving
    assert (busy.color[static] <= empty.color[static] + 1e-6).all()
    assert torch.equal(busy.depth[static], empty.depth[static])


def test_a_changed_building_affects_little_else(town: Town) -> None:
    number = next(i for i, house in enumerate(town.layout.buildings) if house.south > 0 and house.west < 0 < house.east)
    changed = Town.build(0, changed_building=number)
    differing = [a != b for a, b in zip(town.layout.buildings, changed.layout.buildings, strict=True)]
    assert [i for i, differs in enumerate(differing) if differs] == [number]
    house = town.layout.buildings[number]
    targets = [house.center[0], -40.0]
    views = rays([(x, 0.0, 2.0) for x in targets], [(0.0, 8.0, 3.0)] * 2)
    before, after = (built.raycast(views, "overcast", 900.0).color for built in (town, changed))
    assert (before[0] - after[0]).abs().max() > 0.03
    assert (before[1] - after[1]).abs().max() < 1e-3


def test_an_unknown_building_raises() -> None:
    with pytest.raises(CaptureError, match=r"--changed-building 999: there is no such building; give 0 to \d+"):
        Town.build(0, changed_building=999)


def test_four_rays_per_pixel_resolve_the_textures(town: Town, view: Cameras) -> None:
    coarse, fine = (town.render(view, 0, "noon", 400.0, supersample=side).color for side in (2, 6))
    mse = (coarse - fine).square().mean()
    assert -10 * mse.log10().item() > 27.0
