"""Which pairs of images to match: all, or those that are close in time, in space, or in what they show."""

import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, UInt8

MAX_EXHAUSTIVE = 200
"""Up to this many images, all pairs are matched: 20,000 pairs take about ten minutes on two cores."""
OVERLAP = 10
"""Neighbors in time that are matched, before and after an image; further ones at powers of two."""
NUM_NEIGHBORS = 15
"""Nearest images by GPS that are matched."""
NUM_SIMILAR = 8
"""Images with the most similar features that are matched: they close loops."""
NUM_WORDS = 64
"""Clusters of descriptors by which images are compared."""
SAMPLE = 50_000
"""Descriptors from which the clusters are computed."""

Pair = tuple[int, int]


def all_pairs(count: int) -> list[Pair]:
    """Return all pairs of images.

    >>> all_pairs(3)
    [(0, 1), (0, 2), (1, 2)]
    """
    return [(first, second) for first in range(count) for second in range(first + 1, count)]


def sequential_pairs(count: int, overlap: int = OVERLAP) -> list[Pair]:
    """Return the pairs of images at most `overlap` apart, and those that are a greater power of two apart.

    >>> sequential_pairs(6, overlap=1)
    [(0, 1), (0, 2), (0, 4), (1, 2), (1, 3), (1, 5), (2, 3), (2, 4), (3, 4), (3, 5), (4, 5)]
    """
    steps = {*range(1, overlap + 1), *(2**power for power in range(count.bit_length()))}
    return unique_pairs((i, i + step) for i in range(count) for step in steps if i + step < count)


def spatial_pairs(positions: Sequence[tuple[float, float, float] | None], neighbors: int = NUM_NEIGHBORS) -> list[Pair]:
    """Return the pairs of each image and its nearest images by horizontal position; images without one have none."""
    from scipy.spatial import KDTree

    known = [i for i, position in enumerate(positions) if position is not None]
    if len(known) < 2:
        return []
    points = np.array([positions[i] for i in known], dtype=np.float64)[:, :2]
    count = min(neighbors + 1, len(known))
    _, nearest = KDTree(points).query(points, k=count)
    return unique_pairs((known[i], known[j]) for i, row in enumerate(nearest) for j in row)


def similar_pairs(
    descriptors: Sequence[UInt8[np.ndarray, "_ 128"]], neighbors: int = NUM_SIMILAR, apart: int = OVERLAP, seed: int = 0
) -> list[Pair]:
    """Return the pairs of each image and those with the most similar features, at least `apart` images away.

    The images themselves serve as vocabulary, so that none has to be downloaded: descriptors are clustered, and an
    image is described by the residuals to the clusters (VLAD; Jegou et al. 2010, with the signed square root and
    normalization within clusters of Arandjelovic and Zisserman 2013).
    """
    vectors = _describe(descriptors, seed)
    similarity = vectors @ vectors.T
    order = np.arange(len(vectors))
    similarity[np.abs(order[:, None] - order) <= apart] = -np.inf
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbors]
    return unique_pairs((i, j) for i, row in enumerate(nearest) for j in row if np.isfinite(similarity[i, j]))


def unique_pairs(pairs: Iterable[tuple[int, int]]) -> list[Pair]:
    """Return the pairs in ascending order, the smaller index first, each once and none of an image with itself.

    >>> unique_pairs([(2, 1), (1, 2), (3, 3), (0, 2)])
    [(0, 2), (1, 2)]
    """
    return sorted({(int(min(pair)), int(max(pair))) for pair in pairs if pair[0] != pair[1]})


def _describe(descriptors: Sequence[UInt8[np.ndarray, "_ 128"]], seed: int) -> Float[np.ndarray, "images size"]:
    """Return a unit vector per image."""
    from scipy.cluster.vq import kmeans2, vq

    generator = np.random.default_rng(seed)
    quota = max(SAMPLE // max(len(descriptors), 1), 1)
    samples = [rows[generator.permutation(len(rows))[:quota]] for rows in descriptors]
    sample = np.concatenate(samples).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # A cluster may stay empty; nothing is assigned to it.
        words, _ = kmeans2(sample, min(NUM_WORDS, len(sample)), iter=10, minit="points", seed=generator)
    vectors = np.zeros((len(descriptors), *words.shape), np.float32)
    for vector, rows in zip(vectors, descriptors, strict=True):
        features = rows[: 4 * quota].astype(np.float32)
        if len(features):
            labels, _ = vq(features, words)
            np.add.at(vector, labels, features - words[labels])
    vectors = np.sign(vectors) * np.sqrt(np.abs(vectors))
    vectors /= np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-6)
    flat = vectors.reshape(len(vectors), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
