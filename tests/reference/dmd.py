"""The losses of DMD, one pair and one triplet at a time."""

import math

import numpy as np


def shares(scores, here):
    """A softmax over the pairs that a row has."""
    powers = [math.exp(score) if counts else 0.0 for score, counts in zip(scores, here, strict=True)]
    return [power / sum(powers) if sum(powers) else 0.0 for power in powers]


def distilled(scores, prior, distance, here):
    """Mean weighted distance over all pairs of all rows, and ten times the squared drift of the mean weights."""
    learned = [shares(row, flags) for row, flags in zip(scores, here, strict=True)]
    given = [shares(prior, flags) for flags in here]
    rows, pairs = range(len(scores)), range(len(prior))
    taught = [(learned[n][e] + given[n][e]) * distance[n][e] for n in rows for e in pairs if here[n][e]]
    drift = 0.0
    for e in pairs:
        moved = [learned[n][e] - given[n][e] for n in rows if here[n][e]]
        drift += (sum(moved) / len(moved)) ** 2 if moved else 0.0
    return sum(taught) / len(taught) + 10 * drift


def cosine(a, b):
    """Of two vectors."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def triplet_margin(parts, here, labels, margin):
    """The hinge over anchors, positives of other modalities with the same label, and negatives of the same modality."""
    values = []
    count, modalities = parts.shape[:2]
    for m in range(modalities):
        for other in range(modalities):
            for i in range(count):
                for j in range(count):
                    for k in range(count):
                        there = here[i][m] and here[j][other] and here[k][m]
                        if m != other and there and labels[i] == labels[j] and labels[i] != labels[k]:
                            near, far = cosine(parts[i, m], parts[j, other]), cosine(parts[i, m], parts[k, m])
                            values.append(max(0.0, margin * abs(labels[i] - labels[k]) - near + far))
    return sum(values) / len(values)
