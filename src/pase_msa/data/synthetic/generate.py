"""The synthetic benchmark: each modality carries a signal of the class, so that its true contribution is known.

The model is linear and Gaussian, so that the Bayes rule of every coalition of modalities is exact
(`pase_msa.data.synthetic.posterior`). For an utterance of class `y` (uniform over K) and modality `m`::

    e_m  = strength * code[y] + b_m * shared + sqrt(noise^2 - b_m^2) * own_m        evidence, [L]
    x_mt = Q_m [(1 + dominance) * (e_m + .5 * w_mt);  n_m + .5 * v_mt]              frame t, [dim]

`shared`, `own_m`, `w`, `n` and `v` are standard normal, `Q_m` is a fixed random orthonormal map, and `n_m`
and `v` fill the dim - L directions that carry no information. Codes are the class values along one axis with a little
curvature along a second (regression, L = 2), or a simplex (classification, L = K - 1); their mean square norm
is 1.

`b_m = sqrt(redundancy) * strength * s`, where `s` is the least noise / strength among the modalities with
redundancy: all of them show the class through the *same* noise, measured in units of the code, so that
no difference of two modalities cancels it. Among equals this is `noise * sqrt(redundancy)`. Where redundancy
is 1, the weaker modality adds nothing to the stronger one but an average over more frames.

Four options add a term; where one is left out, its term is 0 and every number stays as it is:

- deception: `e_m` gains `deception * code[y]` in the training split and `deception * code[r_m]` in every other,
  with `r_m` a class drawn at random, so that the term has the same distribution everywhere (and so have the
  frames, where strength is 0) and carries no information outside training.
- identity: `n_m` gains `identity * u_m[video]`, standard normal, one vector for all frames of a video.
- clumping: every video has a home class, uniform, and `y` is that class with probability `clumping`.
- synergy: with a hidden sign `h` = +-1, uniform, the first of the pair has `code[y]` where h = 1 and
  `code[K - 1 - y]` where h = -1 (in regression: the first axis of the code times h), and the second has
  `(h, 0, ..., 0)` in place of a code.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pase_msa.data.synthetic.spec import LABEL_RANGE, SyntheticSpec
from pase_msa.data.table import SPLITS, FeatureTable, Schema, Utterance

NOTE = "Synthetic benchmark with a known ground truth; not human data."
POPULATION = "population"
FRAME_NOISE = 0.5
_CURVATURE = 0.3
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """N utterances before they become frames.

    Attributes:
        classes: [N].
        present: modality -> [N].
        lengths: modality -> frames, [N], drawn for absent ones too.
        evidence: modality -> `e_m`, [N, L].
        videos: number of the video within the split, [N].
    """

    classes: NDArray[np.int64]
    present: dict[str, NDArray[np.bool_]]
    lengths: dict[str, NDArray[np.int64]]
    evidence: dict[str, Floats]
    videos: NDArray[np.int64]


def stream(spec: SyntheticSpec, *names: str) -> np.random.Generator:
    """The random stream of a purpose, independent of every other one."""
    return np.random.default_rng([spec.seed, *(zlib.crc32(name.encode()) for name in names)])


def class_codes(spec: SyntheticSpec) -> Floats:
    """Class codes [K, L], mean square norm 1."""
    task = spec.task
    if task.values is None:
        # K points at equal distances: the centred unit vectors, in a basis of the K - 1 dimensions they span
        centred = np.eye(task.num_classes) - 1 / task.num_classes
        codes = centred @ np.linalg.svd(centred)[2][:-1].T
    else:
        values = np.linspace(-1, 1, task.num_classes)
        codes = np.stack([values, _CURVATURE * (values**2 - np.mean(values**2))], axis=1)
    return np.asarray(codes / np.sqrt(np.mean(np.sum(codes**2, axis=1))))


def frame_map(spec: SyntheticSpec, modality: str) -> Floats:
    """The orthonormal map `Q_m` [dim, dim]; its first L columns hold the evidence."""
    dim = spec.modalities[modality].dim
    return np.asarray(np.linalg.qr(stream(spec, "map", modality).standard_normal((dim, dim)))[0])


def shared_noise(spec: SyntheticSpec) -> dict[str, float]:
    """Standard deviation `b_m` of the noise that a modality has in common with the others."""
    ratios = [m.noise / m.strength for m in spec.modalities.values() if m.redundancy > 0 and m.strength > 0]
    least = min(ratios, default=0.0)
    return {name: math.sqrt(m.redundancy) * m.strength * least for name, m in spec.modalities.items()}


def signed_codes(spec: SyntheticSpec, modality: str) -> Floats:
    """The codes of a modality of the synergy pair, [2, K, L]: where the sign is -1, and where it is 1."""
    codes = class_codes(spec)
    if spec.synergy is not None and modality == spec.synergy[0]:
        return np.stack([codes[::-1], codes])
    signs = np.zeros((2, *codes.shape))
    signs[:, :, 0] = [[-1], [1]]
    return signs


def _classes(spec: SyntheticSpec, split: str, videos: NDArray[np.int64]) -> NDArray[np.int64]:
    """The class of each utterance, [N], given its video."""
    number, count = spec.task.num_classes, len(videos)
    classes = stream(spec, "class", split).integers(number, size=count)
    if spec.clumping > 0:
        homes = stream(spec, "home", split).integers(number, size=count)
        clumped = stream(spec, "clumping", split).random(count) < spec.clumping
        classes = np.where(clumped, homes[videos], classes)
    return classes


def _signal(spec: SyntheticSpec, split: str, name: str, classes: NDArray[np.int64]) -> Floats:
    """The evidence of a modality without its noise, [N, L]."""
    modality, codes, count = spec.modalities[name], class_codes(spec), len(classes)
    if spec.synergy is not None and name in spec.synergy:
        positive = stream(spec, "sign", split).integers(2, size=count)
        return np.asarray(modality.strength * signed_codes(spec, name)[positive, classes])
    signal = modality.strength * codes[classes]
    if modality.deception > 0:
        random = stream(spec, "deception", name, split).integers(len(codes), size=count)
        signal = signal + modality.deception * codes[classes if split == "train" else random]
    return np.asarray(signal)


def draw(spec: SyntheticSpec, split: str, count: int) -> Draw:
    """`count` utterances of a split, or of the population, where each is a video of its own."""
    videos = np.arange(count) // (1 if split == POPULATION else spec.utterances_per_video)
    classes, names = _classes(spec, split, videos), list(spec.modalities)
    size = class_codes(spec).shape[1]
    common = stream(spec, "shared", split).standard_normal((count, size))
    rate = np.array([m.missing for m in spec.modalities.values()])
    random = stream(spec, "presence", split)
    present = random.random((count, len(names))) >= rate
    while (bare := ~present.any(axis=1)).any():
        present[bare] = random.random((int(bare.sum()), len(names))) >= rate
    result = Draw(classes, {}, {}, {}, videos)
    for column, (name, modality) in enumerate(spec.modalities.items()):
        low, high = modality.length
        shared = shared_noise(spec)[name]
        own = math.sqrt(max(modality.noise**2 - shared**2, 0.0))
        noise = own * stream(spec, "own", name, split).standard_normal(common.shape)
        result.present[name] = present[:, column]
        result.lengths[name] = stream(spec, "length", name, split).integers(low, high + 1, size=count)
        result.evidence[name] = _signal(spec, split, name, classes) + shared * common + noise
    return result


def _frames(spec: SyntheticSpec, split: str, name: str, drawn: Draw) -> list[NDArray[np.float32] | None]:
    """Frames of a modality, one array [T, dim] per utterance, None where absent."""
    modality, evidence, lengths = spec.modalities[name], drawn.evidence[name], drawn.lengths[name]
    size, random = evidence.shape[1], stream(spec, "frames", name, split)
    nuisance = random.standard_normal((len(lengths), modality.dim - size))
    if modality.identity > 0:
        marks = stream(spec, "identity", name, split).standard_normal(nuisance.shape)
        nuisance += modality.identity * marks[drawn.videos]
    frames = np.repeat(np.concatenate([evidence, nuisance], axis=1), lengths, axis=0)
    frames += FRAME_NOISE * random.standard_normal(frames.shape)
    frames[:, :size] *= 1 + modality.dominance
    mapped = (frames @ frame_map(spec, name).T).astype(np.float32)
    rows = np.split(mapped, np.cumsum(lengths)[:-1])
    return [row if there else None for row, there in zip(rows, drawn.present[name], strict=True)]


def synthetic_table(spec: SyntheticSpec | None = None, *, path: str | Path | None = None) -> FeatureTable:
    """The benchmark as a feature table, in memory or in the folder `path`.

    The label column is "sentiment" (real, in [-3, 3]) or "emotion" (class names). `meta["spec"]` holds the
    spec, and `meta["synthetic"]` is True.

    Args:
        spec: the options; the bundled benchmark (three modalities, 1200 utterances) if left out.
        path: folder to write the table to; it stays in memory if left out.
    """
    spec = SyntheticSpec() if spec is None else spec
    task = spec.task
    meta: dict[str, Any] = {"synthetic": True, "note": NOTE, "format": "synthetic", "spec": spec.to_dict()}
    meta |= {"classes": list(task.classes)} if task.values is None else {"label_range": list(LABEL_RANGE)}
    schema = Schema(
        {name: modality.dim for name, modality in spec.modalities.items()},
        {task.label: "class" if task.values is None else "real"},
    )
    return FeatureTable.build(_utterances(spec), schema, path=path, meta=meta)


def _utterances(spec: SyntheticSpec) -> Iterator[Utterance]:
    task = spec.task
    for split in SPLITS:
        count: int = getattr(spec, split)
        if count == 0:
            continue
        drawn = draw(spec, split, count)
        frames = {name: _frames(spec, split, name, drawn) for name in spec.modalities}
        labels: list[Any] = [task.classes[k] for k in drawn.classes]
        if task.values is not None:
            width = spec.jitter * (task.values[1] - task.values[0])
            spread = width * (stream(spec, "jitter", split).random(count) - 0.5)
            labels = np.clip(np.array(task.values)[drawn.classes] + spread, *LABEL_RANGE).tolist()
        for i in range(count):
            video = f"{split}_{drawn.videos[i]:04d}"
            features = {name: rows[i] for name, rows in frames.items()}
            clip = f"{video}_{i % spec.utterances_per_video:02d}"
            yield Utterance(clip, video, split, {task.label: labels[i]}, features)
