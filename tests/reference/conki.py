"""ConKI: the contrast of two kinds of vectors, by loops over them."""

import math

import numpy as np


def contrast(vectors, temperature):
    """C over a list of (kind, class, vector)."""
    unit = [(kind, label, np.asarray(v) / np.linalg.norm(v)) for kind, label, v in vectors]
    values = []
    for a, (kind, label, anchor) in enumerate(unit):
        others = [b for b in range(len(unit)) if b != a]
        whole = sum(math.exp(anchor @ unit[b][2] / temperature) for b in others)
        positives = [b for b in others if unit[b][0] == kind and unit[b][1] == label]
        if positives:
            shares = [math.exp(anchor @ unit[p][2] / temperature) / whole for p in positives]
            values.append(-sum(math.log(share) for share in shares) / len(positives))
    return sum(values) / len(values) if values else 0.0
