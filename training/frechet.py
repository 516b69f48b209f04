"""The Frechet distance between two sets of features, as FID and FVD take it, in numpy."""

import numpy as np

NUM_COMPONENTS = 32
"""Principal components that features are reduced to: a few hundred clips say little about larger covariances."""


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """The squared Frechet distance of two Gaussians fitted to features `N D`.

    Source: Heusel et al. (arXiv 1706.08500), equation 6.
    """
    root = _root(np.cov(first, rowvar=False))
    middle = np.linalg.eigvalsh(root @ np.cov(second, rowvar=False) @ root)
    spread = np.var(first, axis=0, ddof=1).sum() + np.var(second, axis=0, ddof=1).sum()
    apart = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    return float(apart + spread - 2 * np.sqrt(np.clip(middle, 0, None)).sum())


def _root(symmetric: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(symmetric)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def principal_axes(features: np.ndarray, num_components: int = NUM_COMPONENTS) -> np.ndarray:
    """The directions `D K` along which features `N D` differ most."""
    _, _, axes = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    return axes[:num_components].T
