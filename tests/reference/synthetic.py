"""Naive Bayes rule of the synthetic benchmark: the joint density of all frames, written out in full."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.stats import multivariate_normal

from pase_msa.data.synthetic.generate import class_codes, frame_map
from pase_msa.data.synthetic.spec import SyntheticSpec


def signal(spec: SyntheticSpec, name: str, k: int, sign: int, seeming: int) -> np.ndarray:
    """Mean evidence [L] of a modality given all that is hidden: class, sign, and class that deception shows."""
    codes, modality = class_codes(spec), spec.modalities[name]
    first, second = spec.synergy or ("", "")
    if name == first:
        return modality.strength * (codes[k] if sign == 1 else codes[len(codes) - 1 - k])
    if name == second:
        return modality.strength * sign * np.eye(codes.shape[1])[0]
    return modality.strength * codes[k] + modality.deception * codes[seeming]


def posterior(spec: SyntheticSpec, frames: dict[str, np.ndarray], classes: int, training: bool = False) -> np.ndarray:
    """Class probabilities [K] given the frames [T, dim] of the modalities at hand, and whether they trained."""
    codes = class_codes(spec)
    size = codes.shape[1]
    ratios = [m.noise / m.strength for m in spec.modalities.values() if m.redundancy and m.strength]
    blocks, planes, offset = [], [], size
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
            inner[size:, offset + size : offset + dim] = np.sqrt(1 + modality.identity**2) * np.eye(dim - size)
            start = offset + dim + step * dim
            inner[:, start : start + dim] = 0.5 * np.eye(dim)
            blocks.append(turn @ scale @ inner)
            planes.append((name, (turn @ scale)[:, :size]))
        offset += dim + steps * dim
    spread = np.concatenate(blocks)
    density = multivariate_normal(cov=spread @ spread.T)
    seen = np.concatenate([frames[name].reshape(-1) for name in frames])
    signs = (-1, 1) if spec.synergy and set(spec.synergy) & set(frames) else (1,)
    deceptive = [name for name in frames if spec.modalities[name].deception]
    logs = []
    for k in range(classes):
        cases = []
        seemings = [(k,)] * len(deceptive) if training else [range(classes)] * len(deceptive)
        for sign, *seeming in product(signs, *seemings):
            shown = dict(zip(deceptive, seeming, strict=True))
            means = [plane @ signal(spec, name, k, sign, shown.get(name, 0)) for name, plane in planes]
            cases.append(seen - np.concatenate(means))
        # the same number of cases for every class, so that their sum does for their mean
        logs.append(np.atleast_1d(density.logpdf(np.array(cases))))
    weights = np.exp(np.array(logs) - np.max(logs)).sum(axis=1)
    return weights / weights.sum()
