"""Pairs of images to match: neighbors in time and space, and similar ones."""

import numpy as np
import pytest

from blocknerf.sfm.pairs import sequential_pairs, similar_pairs, spatial_pairs


@pytest.mark.parametrize("count", [2, 3, 40])
def test_neighbors_in_time_and_powers_of_two(count: int) -> None:
    pairs = sequential_pairs(count, overlap=3)
    steps = {second - first for first, second in pairs}
    assert steps == {step for step in (1, 2, 3, 4, 8, 16, 32) if step < count}
    assert len(pairs) == len(set(pairs))


def test_nearest_neighbors_in_space() -> None:
    """Two drives along a street in opposite directions: each image gets its counterpart of the other drive."""
    there = [(float(x), 0.0, 0.0) for x in range(20)]
    back = [(float(x), 1.0, 30.0) for x in reversed(range(20))]
    pairs = spatial_pairs([*there, None, *back], neighbors=3)
    assert all((i, 40 - i) in pairs for i in range(20))
    assert all(20 not in pair for pair in pairs)
    assert spatial_pairs([None, (0.0, 0.0, 0.0)]) == []


def test_similar_images_close_a_loop() -> None:
    """Images 0 to 9 and 20 to 29 show the same places; their features differ by noise."""
    generator = np.random.default_rng(1)
    places = [generator.integers(0, 256, (40, 128)) for _ in range(20)]
    images = [
        np.clip(places[i % 20] + generator.normal(0.0, 5.0, (40, 128)), 0, 255).astype(np.uint8) for i in range(30)
    ]
    pairs = similar_pairs(images, neighbors=1, apart=5)
    assert all((i, i + 20) in pairs for i in range(10))
    assert similar_pairs(images, neighbors=1, apart=5) == pairs


def test_an_image_without_features_has_no_influence() -> None:
    images = [np.full((5, 128), 9 * i, np.uint8) for i in range(12)]
    images[3] = images[3][:0]
    assert all(second - first > 2 for first, second in similar_pairs(images, apart=2))
