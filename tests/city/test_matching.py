"""Matching where the answer is known: fields whose codes shift or scale colors, each by a mixing of its own."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.city import matching as matching_module
from blocknerf.city import overlaps
from blocknerf.city.matching import connected_components, graph_center, hop_counts, match_codes, matching_order
from blocknerf.city.overlaps import BlockOverlap, SharedRays, adjacent_blocks, color_difference, find_overlaps
from blocknerf.partition.block import Block
from blocknerf.town.field import TownField
from blocknerf.town.town import Town


def mixing(seed: int) -> Tensor:
    """What a block makes of a code: a rotation, so that no two blocks' codes mean the same."""
    draw = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(3, 3, generator=draw)).Q


@pytest.fixture
def shifted(street_scene) -> Callable[[int], object]:
    """Makes a street whose code, mixed, is added to every color."""

    class Shifted(street_scene):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.mixing = mixing(seed)

        def color(self, features: Tensor, directions: Tensor, code: Tensor, exposure: Tensor) -> Tensor:
            return super().color(features, directions, code @ self.mixing.T, exposure)

        def sky(self, directions: Tensor, code: Tensor, exposure: Tensor) -> Tensor:
            return super().sky(directions, code @ self.mixing.T, exposure)

    return Shifted


def street_cameras(count: int, view) -> Cameras:
    eyes = [(2.0 * i, 0.0, 1.5) for i in range(5 * count)]
    return Cameras.cat([view(eye, (eye[0] + 5.0, 1.0, 1.0), size=40) for eye in eyes])


def test_a_chain_of_blocks_takes_the_light_of_its_root(shifted, route, view) -> None:
    city = route(4)
    fields = {block.name: shifted(i) for i, block in enumerate(city.blocks)}
    cameras = dict.fromkeys(fields, street_cameras(4, view))
    seams = find_overlaps(adjacent_blocks(city.blocks), cameras, fields.__getitem__)
    root, exposure = torch.tensor([0.1, -0.2, 0.05]), 1.0
    apart = {name: torch.zeros(3) for name in fields} | {"b001": root}
    found = list(match_codes(seams, fields.__getitem__, {"b001": root}, lambda name: [torch.zeros(3)], exposure))
    assert [each.name for each in found][2:] == ["b003"]
    assert {each.name: each.neighbors for each in found}["b002"] == ("b001",)
    codes = {"b001": root} | {each.name: each.code for each in found}
    wanted = fields["b001"].mixing @ root
    for name, code in codes.items():
        torch.testing.assert_close(fields[name].mixing @ code, wanted, atol=3e-3, rtol=0.0)
    for seam in seams:
        after = color_difference(seam, fields.__getitem__, codes, exposure)
        assert after < 0.003
        if "b001" in seam.blocks:
            assert after < 0.05 * color_difference(seam, fields.__getitem__, apart, exposure)


def test_a_block_between_two_that_differ_takes_the_middle(shifted, route, view) -> None:
    city = route(3)
    fields = {block.name: shifted(i) for i, block in enumerate(city.blocks)}
    seams = find_overlaps(
        adjacent_blocks(city.blocks), dict.fromkeys(fields, street_cameras(3, view)), fields.__getitem__
    )
    shown = {"b000": torch.tensor([0.2, 0.0, 0.0]), "b002": torch.tensor([0.0, 0.1, -0.1])}
    known = {name: fields[name].mixing.T @ light for name, light in shown.items()}
    (found,) = match_codes(seams, fields.__getitem__, known, lambda name: [torch.zeros(3)], 1.0)
    assert set(found.neighbors) == {"b000", "b002"}
    middle = 0.5 * (shown["b000"] + shown["b002"])
    torch.testing.assert_close(fields["b001"].mixing @ found.code, middle, atol=5e-3, rtol=0.0)


def test_the_search_begins_at_the_best_start(shifted, route, view) -> None:
    city = route(2)
    fields = {block.name: shifted(i) for i, block in enumerate(city.blocks)}
    seams = find_overlaps(
        adjacent_blocks(city.blocks), dict.fromkeys(fields, street_cameras(2, view)), fields.__getitem__
    )
    light = torch.tensor([3.0, -2.0, 1.0])  # Farther than a few steps lead.
    known = {"b000": fields["b000"].mixing.T @ light}
    near = fields["b001"].mixing.T @ (light + 0.01)
    for starts, good in (([torch.zeros(3), near], True), ([torch.zeros(3)], False)):
        (found,) = match_codes(seams, fields.__getitem__, known, lambda _, s=starts: s, 1.0, steps=5)
        assert torch.allclose(fields["b001"].mixing @ found.code, light, atol=0.05) == good


def test_codes_are_held_near_their_starts(shifted, route, view, monkeypatch: pytest.MonkeyPatch) -> None:
    city, start = route(2), torch.tensor([0.1, -0.1, 0.2])
    fields = {block.name: shifted(i) for i, block in enumerate(city.blocks)}
    seams = find_overlaps(
        adjacent_blocks(city.blocks), dict.fromkeys(fields, street_cameras(2, view)), fields.__getitem__
    )
    monkeypatch.setattr(matching_module, "CODE_REG", 1e3)
    (found,) = match_codes(seams, fields.__getitem__, {"b000": torch.zeros(3)}, lambda _: [start], 1.0)
    assert torch.allclose(found.code, start, atol=1e-3)


class LitTown:
    """A town whose code multiplies its light: red, green and blue, in stops, mixed."""

    appearance_dim = 3

    def __init__(self, town: TownField, seed: int) -> None:
        self.town, self.mixing = town, mixing(seed)
        self.near, self.far, self.linear_until = town.near, town.far, town.linear_until
        self.num_samples, self.proposal_density_fns = town.num_samples, town.proposal_density_fns
        self.density, self.visibility = town.density, town.visibility

    def gain(self, code: Tensor) -> Tensor:
        return torch.exp2(code @ self.mixing.T)

    def color(self, features: Tensor, directions: Tensor, code: Tensor, exposure: Tensor) -> Tensor:
        noon = self.town.code("noon").expand(len(directions), -1)
        return self.town.color(features, directions, noon, exposure) * self.gain(code)[:, None]

    def sky(self, directions: Tensor, code: Tensor, exposure: Tensor) -> Tensor:
        noon = self.town.code("noon").expand(len(directions), -1)
        return self.town.sky(directions, noon, exposure) * self.gain(code)


def test_an_exact_town_takes_one_light(view, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gains of light of up to a stop, recovered to a twentieth in under a hundred steps."""
    for name, value in (("VIEW_SIDE", 12), ("CANDIDATES", 6), ("VIEWS", 2)):
        monkeypatch.setattr(overlaps, name, value)
    town = TownField(Town.build(0), num_samples=(32, 24, 16))
    fields = {"west": LitTown(town, 1), "east": LitTown(town, 2)}
    blocks = [Block(name=name, origin=(x, -1.6, 2.3), radius=20.0) for name, x in (("west", -8.0), ("east", 8.0))]
    eyes = [(-12.0 + 4.0 * i, -1.6, 2.3) for i in range(6)]
    cameras = Cameras.cat([view(eye, (eye[0] + 9.0, 0.5, 2.5), size=40) for eye in eyes])
    seams = find_overlaps(adjacent_blocks(blocks), dict.fromkeys(fields, cameras), fields.__getitem__)
    root = fields["west"].mixing.T @ torch.tensor([-0.2, -0.7, -1.0])
    (found,) = match_codes(seams, fields.__getitem__, {"west": root}, lambda name: [torch.zeros(3)], 500.0, steps=99)
    stops = fields["east"].mixing @ found.code
    torch.testing.assert_close(stops, torch.tensor([-0.2, -0.7, -1.0]), atol=0.05, rtol=0.0)


def edge(first: str, second: str, visibility: float) -> BlockOverlap:
    nothing = SharedRays.__new__(SharedRays)
    return BlockOverlap(blocks=(first, second), visibility=visibility, fit_rays=nothing, eval_rays=nothing)


SQUARE = [edge("a", "b", 0.2), edge("b", "d", 0.9), edge("a", "c", 0.3), edge("c", "d", 0.1), edge("x", "y", 0.5)]


def test_the_walk_goes_breadth_first_and_best_seen_first() -> None:
    found = [(name, [seam.other(name) for seam in links]) for name, links in matching_order(SQUARE, ["a"])]
    assert found == [("c", ["a"]), ("b", ["a"]), ("d", ["b", "c"])]


def test_a_block_counts_by_the_best_of_its_seams() -> None:
    seams = [edge("p", "u", 0.8), edge("p", "v", 0.5), edge("q", "u", 0.1)]
    assert [name for name, _ in matching_order(seams, ["p", "q"])] == ["u", "v"]


def test_the_walk_may_begin_in_several_places() -> None:
    assert [name for name, _ in matching_order(SQUARE, ["a", "x"])] == ["y", "c", "b", "d"]
    assert list(matching_order(SQUARE, ["a", "b", "c", "d"])) == []


def test_parts_without_a_seam_between_them_are_islands() -> None:
    assert connected_components(["a", "b", "c", "d", "x", "y", "z"], SQUARE) == [
        ("a", "b", "c", "d"),
        ("x", "y"),
        ("z",),
    ]
    assert hop_counts(SQUARE, "a") == {"a": 0, "b": 1, "c": 1, "d": 2}


def test_the_middle_is_where_errors_add_up_least() -> None:
    chain = [edge("a", "b", 1.0), edge("b", "c", 1.0), edge("c", "d", 1.0), edge("d", "e", 1.0)]
    assert graph_center("abcde", chain, dict.fromkeys("abcde", 5)) == "c"
    assert graph_center("abcde", chain, {"a": 5, "e": 9}) == "e"
    assert graph_center("abcde", chain, {}) == "c"
