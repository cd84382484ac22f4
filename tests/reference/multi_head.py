"""The control with unimodal heads, one utterance at a time."""

import math


def head_loss(vectors, weight, bias, membership, present, values=None, labels=None):
    """L_task of a linear head over the utterances that have its modality; with class values, the score's error, too."""
    rows = []
    for i, vector in enumerate(vectors):
        if not present[i]:
            continue
        logits = [sum(w * v for w, v in zip(row, vector, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        whole = sum(math.exp(logit) for logit in logits)
        p = [math.exp(logit) / whole for logit in logits]
        loss = -sum(u * math.log(q) for u, q in zip(membership[i], p, strict=True))
        if values is not None:
            loss += abs(sum(v * q for v, q in zip(values, p, strict=True)) - labels[i])
        rows.append(loss)
    return sum(rows) / len(rows)


def benchmark_gradient(joint, alone, gamma=1.5):
    """What the benchmark's trainer makes of an encoder's gradients: both of its "two" are the sum of all losses."""
    total = joint + alone
    c = 0.5  # a vector agrees with itself
    return gamma * (2 * c * total + 2 * (1 - c) * total)
