"""How near generated images come to real ones, by features of both: distance, precision and recall, nearest ones.

The features are those of networks at hand, not of Inception: figures compare with each other, not with published FIDs.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from pie_jax.arrays import Array

SAME_PERSON = 0.91  # cosine of face descriptors: the mean of a person's neutral and smiling photographs
NEIGHBOURS = 3


def frechet(a: Array, b: Array) -> float:
    """Frechet distance (arXiv 1706.08500) of the Gaussians of features [N, F] and [M, F].

    The trace of the root of the covariances' product is the sum of singular values of one centred set times the other,
    which needs no F x F root.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    means = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    a, b = ((x - x.mean(axis=0)) / np.sqrt(max(len(x) - 1, 1)) for x in (a, b))
    total = np.square(a).sum() + np.square(b).sum()
    a, b = (np.linalg.qr(x, mode="r") for x in (a, b))  # the same singular values, of at most F x F
    return float(means + total - 2.0 * np.sum(np.asarray(scipy.linalg.svdvals(a @ b.T))))


def precision_recall(real: Array, fake: Array, *, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Share of fake features [M, F] within the real ones' manifold, and of real [N, F] within the fakes'.

    A manifold is the union of balls that reach to the k-th nearest of the same set (arXiv 1904.06991).
    """
    return _covered(real, fake, neighbours), _covered(fake, real, neighbours)


def _covered(of: Array, what: Array, neighbours: int) -> float:
    among = np.sort(_distances(of, of), axis=1)
    reach = among[:, min(neighbours, among.shape[1] - 1)]  # the nearest is the point itself
    return float((_distances(what, of) <= reach[None]).any(axis=1).mean())


def _distances(a: Array, b: Array) -> np.ndarray:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    squared = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None] - 2.0 * a @ b.T
    return np.sqrt(np.maximum(squared, 0.0))


def nearest(known: Array, asked: Array) -> tuple[np.ndarray, np.ndarray]:
    """Of unit descriptors `asked` [M, F]: the index [M] of the most alike of `known` [N, F], and the cosine [M]."""
    cosines = np.asarray(asked) @ np.asarray(known).T
    index = cosines.argmax(axis=1)
    return index, cosines[np.arange(len(index)), index]
