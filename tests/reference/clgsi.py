"""Pieces of CLGSI, as the facts of its published code give them, one pair at a time."""

import math

import numpy as np


def weights(distance, threshold):
    """w+ and w- of two utterances whose scores, in [-1, 1], lie so far apart."""
    if distance <= threshold:
        return 1.5 * math.tanh(0.8 - distance), 0.0
    return 0.0, 0.8 * 1.5 * math.tanh(distance)


def side(own, others, scores, temperature, threshold, self_pairs):
    """l(a; b) for unit vectors a (`own`) and b (`others`; None: one modality alone) of utterances with these scores."""
    values = []
    for i in range(len(own)):
        sums = [0.0, 0.0]
        anchored = False
        for j in range(len(own)):
            pair = weights(abs(scores[i] - scores[j]), threshold)
            for kind, weight in enumerate(pair):
                if weight == 0:
                    continue
                if others is not None:
                    sums[kind] += math.exp(weight * float(own[i] @ others[j]) / temperature)
                    anchored |= kind == 0
                if i != j or self_pairs:
                    sums[kind] += math.exp(weight * float(own[i] @ own[j]) / temperature)
                    anchored |= kind == 0
        if anchored:
            values.append(-math.log(sums[0] / (sums[0] + sums[1])))
    return sum(values) / max(len(values), 1)


def contrast(vectors, present, scores, temperature, threshold, self_pairs=False):
    """Sum over pairs of modalities of the mean of both sides, each over the utterances that have the two.

    Args:
        vectors: by modality, [N, D], of any length.
        present: by modality, [N].
        scores: in [-1, 1], [N].
    """

    def rows(kept, name):
        return [vectors[name][i] / np.linalg.norm(vectors[name][i]) for i in kept]

    names, options = list(vectors), (temperature, threshold, self_pairs)
    if len(names) == 1:
        kept = [i for i in range(len(scores)) if present[names[0]][i]]
        return side(rows(kept, names[0]), None, [scores[i] for i in kept], *options)
    total = 0.0
    for place, one in enumerate(names):
        for two in names[place + 1 :]:
            kept = [i for i in range(len(scores)) if present[one][i] and present[two][i]]
            of_kept = [scores[i] for i in kept]
            total += side(rows(kept, one), rows(kept, two), of_kept, *options) / 2
            total += side(rows(kept, two), rows(kept, one), of_kept, *options) / 2
    return total


def mixed(common, mix, layers, slope):
    """GLFK: the same function of one number at every coordinate of the common vectors of an utterance.

    Args:
        common: the vectors, in the order of the modalities.
        mix: weights and bias of the mix of the modalities.
        layers: three affine maps, (matrix, bias) each.
        slope: of the PReLU behind the first.
    """
    result = []
    for j in range(len(common[0])):
        number = sum(w * vector[j] for w, vector in zip(mix[0], common, strict=True)) + mix[1]
        (first, first_bias), (second, second_bias), (third, third_bias) = layers
        hidden = [max(h, 0) + slope * min(h, 0) for h in first @ np.array([number]) + first_bias]
        result.append(math.tanh(float((third @ (second @ np.array(hidden) + second_bias) + third_bias)[0])))
    return np.array(result)


def specific(vector, reduce, reduce_bias, expand):
    """s: sigmoid of two maps with ReLU between them."""
    return 1 / (1 + np.exp(-(expand @ np.maximum(reduce @ vector + reduce_bias, 0))))
