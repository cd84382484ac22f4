"""Naive Bayes rule of the synthetic benchmark: the joint Gaussian of all frames, written out in full."""

from __future__ import annotations

import numpy as np
from scipy.stats import multivariate_normal

from pase_msa.data.synthetic import SyntheticSpec, class_codes, frame_map


def posterior(spec: SyntheticSpec, frames: dict[str, np.ndarray], classes: int) -> np.ndarray:
    """Class probabilities [K] given the frames [T, dim] of the modalities at hand."""
    codes = class_codes(spec)
    size = codes.shape[1]
    ratios = [m.noise / m.strength for m in spec.modalities.values() if m.redundancy and m.strength]
    blocks, means, offset = [], [], size
    total = size + sum(spec.modalities[name].dim * (1 + len(steps)) for name, steps in frames.items())
    # x = mean_k + A z, where z holds every standard normal of the model: first the shared ones, then for each
    # modality its own noise, its nuisance, and the noise of each frame
    for name, rows in frames.items():
        modality, turn, steps = spec.modalities[name], frame_map(spec, name), len(rows)
        dim = modality.dim
        shared = np.sqrt(modality.redundancy) * modality.strength * min(ratios, default=0)
        own = np.sqrt(max(modality.noise**2 - shared**2, 0))
        scale = np.diag([1 + modality.dominance] * size + [1.0] * (dim - size))
        for step in range(steps):
            inner = np.zeros((dim, total))
            inner[:size, :size] = shared * np.eye(size)
            inner[:size, offset : offset + size] = own * np.eye(size)
            inner[size:, offset + size : offset + dim] = np.eye(dim - size)
            start = offset + dim + step * dim
            inner[:, start : start + dim] = 0.5 * np.eye(dim)
            blocks.append(turn @ scale @ inner)
            signal = np.zeros((classes, dim))
            signal[:, :size] = modality.strength * codes
            means.append(signal @ scale @ turn.T)
        offset += dim + steps * dim
    spread = np.concatenate(blocks)
    covariance, mean = spread @ spread.T, np.concatenate(means, axis=1)
    seen = np.concatenate([frames[name].reshape(-1) for name in frames])
    logs = np.array([multivariate_normal.logpdf(seen, mean[k], covariance) for k in range(classes)])
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()
