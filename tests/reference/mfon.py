"""MFON: its two losses, by loops."""

import math

import numpy as np


def softmax(row):
    """Shares of a list of numbers."""
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def divergence(teacher, student):
    """KL of the softmax of one vector from that of another."""
    return sum(p * math.log(p / q) for p, q in zip(softmax(teacher), softmax(student), strict=True))


def contrast(vectors, anchors):
    """Mean of -log of the share of the own anchor among all, by cosine."""

    def cosine(x, y):
        return x @ y / (np.linalg.norm(x) * np.linalg.norm(y))

    values = []
    for i, vector in enumerate(vectors):
        values.append(-math.log(softmax([cosine(vector, anchor) for anchor in anchors])[i]))
    return sum(values) / len(values)
